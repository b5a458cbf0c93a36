# lesioncore, its command line and its embedded priors. docs/how-to/containers.md says how to use it.
#
#   docker build -t lesioncore .                                    with torch's CPU build
#   docker build -t lesioncore:cuda --build-arg VARIANT=cuda .      with the CUDA half and torch's CUDA build
#
# The CUDA image has not been built yet; of that for the CPU, .ci/container has run.
ARG VARIANT=cpu

FROM ubuntu:24.04 AS compiler-cpu

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS compiler-cuda

# hadolint ignore=DL3006
FROM compiler-${VARIANT} AS build
ARG VARIANT
ARG TORCH_INDEX
# Versions are those of the base image's distribution.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN /src/.ci/container /opt/lesioncore "${VARIANT}"

# The same distribution, for the same Python. torch's wheels bring what they need of CUDA; the driver is the host's.
FROM ubuntu:24.04
LABEL org.opencontainers.image.title="lesioncore" \
      org.opencontainers.image.description="Lesion detection in brain MRI. Research software, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-3.0"
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 lesioncore
COPY --from=build /opt/lesioncore /opt/lesioncore
# Folders that any user can write, since a container is often run with the host user's number.
ENV PATH=/opt/lesioncore/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /data
ENTRYPOINT ["lesioncore"]
CMD ["--help"]
