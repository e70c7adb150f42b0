# Our server with the ONNX backend, without TensorFlow:
#   docker build -t keraship .
#   docker run --init --read-only --tmpfs /tmp -p 8500:8500 -p 8501:8501 -v "$PWD/repo:/models:ro" keraship
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY client client
COPY exporter exporter
COPY models models
COPY serving serving
# --without-pip: what runs later brings no tool to install things with.
RUN python -m venv --without-pip /opt/keraship \
 && python -m pip --python /opt/keraship/bin/python install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:${PYTHON_VERSION}-slim AS server
COPY --from=build /opt/keraship /opt/keraship
ENV PATH=/opt/keraship/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8500 8501
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8501), 2).close()"]
ENTRYPOINT ["keraship", "serve"]
CMD ["/models", "--port=8500", "--rest_api_port=8501"]
