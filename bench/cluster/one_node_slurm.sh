#!/bin/bash
# Starts Slurm on this machine alone, as one node with all its cores: bench/cluster/one_node_slurm.sh start | stop
# Needs root, and Debian's or Ubuntu's packages slurm-wlm and munge. It is for trying job scripts, not for serving anyone.
set -euo pipefail
state=/var/tmp/lesioncore-slurm
export SLURM_CONF=$state/slurm.conf

stop() {
    for name in slurmd slurmctld munged; do
        pkill -x "$name" || true
    done
}

start() {
    mkdir -p "$state/spool" "$state/state" /run/munge
    chown munge: /run/munge
    [ -e /etc/munge/munge.key ] || mungekey --create
    pgrep -x munged > /dev/null || runuser -u munge -- munged
    cat > "$SLURM_CONF" <<END
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/cgroup
TaskPlugin=task/affinity,task/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
StateSaveLocation=$state/state
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/ {print $2 - 1000}')
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    cat > "$state/cgroup.conf" <<END
CgroupPlugin=autodetect
CgroupAutomount=yes
ConstrainCores=yes
ConstrainRAMSpace=yes
END
    slurmctld
    slurmd
    for _ in $(seq 30); do
        [ "$(sinfo --noheader --format=%T 2> /dev/null || true)" = idle ] && echo "export SLURM_CONF=$SLURM_CONF" && return
        sleep 1
    done
    echo "Slurm has not come up; see $state/*.log" >&2
    return 1
}

case "${1:-}" in
    start | stop) "$1" ;;
    *) echo "usage: $0 start | stop" >&2 && exit 2 ;;
esac
