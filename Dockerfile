# `pennyweight serve` over the classifiers in /classifiers, on a CPU: see docs/serving.md.
#
#   docker build -t pennyweight .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --publish 127.0.0.1:8000:8000 \
#     --env PENNYWEIGHT_TOKEN --volume "$PWD/runs:/classifiers:ro" pennyweight
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8 && \
    uv venv --python /usr/local/bin/python /opt/pennyweight
# Versions and hashes come from the lock, as in `make setup`; torch stands outside it and is its build for CPUs. This
# layer is made anew only when a dependency changes.
COPY pyproject.toml requirements.lock requirements-torch.txt ./
RUN uv pip install --python /opt/pennyweight --no-cache --compile-bytecode --torch-backend cpu \
    --requirements pyproject.toml --extra serve --extra embedded \
    --constraint requirements.lock --constraint requirements-torch.txt
COPY README.md LICENSE ./
COPY src src
RUN uv pip install --python /opt/pennyweight --no-cache --compile-bytecode --no-deps \
    --build-constraint requirements.lock .

FROM python:${PYTHON}-slim
COPY --from=build /opt/pennyweight /opt/pennyweight
# Backbones that are not in the image lie in /backbones as in huggingface_hub's cache. Nothing is fetched while serving,
# and nothing is written but temporary files.
ENV PATH=/opt/pennyweight/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    HF_HOME=/backbones \
    XDG_CACHE_HOME=/tmp \
    HOME=/tmp
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
# SIGTERM drains: what was accepted is answered. Give `docker stop` that long (`--time 40`).
STOPSIGNAL SIGTERM
ENTRYPOINT ["pennyweight", "serve"]
CMD ["/classifiers", "--host", "0.0.0.0", "--port", "8000"]
