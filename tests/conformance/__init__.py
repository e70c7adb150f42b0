"""Cases that a stand-in for tensorflow_model_server must pass, as data, and what runs them.

python -m tests.conformance                                    # starts `keraship serve` itself
python -m tests.conformance --rest http://HOST:8501 --grpc HOST:8500
"""
