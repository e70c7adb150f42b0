"""keraship.serving"""
