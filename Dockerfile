# The gateway, and everything that `askonce serve` can run embedded. Build it with `docker compose build`.
FROM python:3.13-slim-trixie

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN groupadd --gid 10001 askonce \
    && useradd --uid 10001 --gid askonce --home-dir /data --no-create-home --shell /usr/sbin/nologin askonce \
    && install -d -o askonce -g askonce -m 700 /data

# The same script that `make serve` runs: an environment from the pinned packages, with Debian's libgomp.
WORKDIR /app
COPY deploy/environment deploy/environment
COPY requirements.lock .
RUN deploy/environment .venv python3 requirements.lock libgomp.so.1=libgomp1 && rm -rf /var/lib/apt/lists/*

COPY gateway gateway
COPY extractors extractors
COPY storage storage
COPY migrations migrations

USER askonce
VOLUME /data
EXPOSE 8080
ENV PATH=/app/.venv/bin:$PATH \
    ASKONCE_HOST=0.0.0.0 \
    ASKONCE_DATA_DIR=/data

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["askonce"]
CMD ["serve"]
