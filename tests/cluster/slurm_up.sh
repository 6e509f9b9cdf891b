#!/usr/bin/env bash
# Start a real Slurm (Debian 12: slurm-wlm 22.05) with several nodes on this machine: no systemd, no cgroups, no accounting.
#   SLURM_TEST_DIR     folder for configuration, state and logs (required)
#   SLURM_TEST_NODES   number of nodes, of one CPU each (3)
#   SLURM_TEST_MEM_MB  memory that each node pretends to have (8000)
#   --install          apt-get install what is missing
# Only in a box without a network (box.sh): Slurm listens on all interfaces.
set -euo pipefail
tools=(munged slurmctld slurmd sbatch ip pgrep)
packages=(munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins iproute2 procps)

missing() { for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || return 0; done; return 1; }

if [ "${1:-}" = --install ]; then
  if missing; then
    apt-get -qq update
    # No daemon of the packages starts by itself: ours have a configuration and a key of their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod +x $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${packages[@]}" >/dev/null
  fi
  exit 0
fi

folder=${SLURM_TEST_DIR:?}; nodes=${SLURM_TEST_NODES:-3}; mem_mb=${SLURM_TEST_MEM_MB:-8000}
die() { echo "slurm_up: $*" >&2; tail -n 15 "$folder"/log/*.log >&2 2>/dev/null || true; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root"
! missing || die "needs ${tools[*]} (slurm_up.sh --install installs ${packages[*]})"
[ "$(ip -o link | wc -l)" = 1 ] || die "there is a network: start it in box.sh"

mkdir -p "$folder"/{etc,log,run,state}
install -d -m 700 "$folder/munge"
(umask 077; head -c 1024 /dev/urandom >"$folder/munge/munge.key")
munged --force --key-file="$folder/munge/munge.key" --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
  --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" || die "munged does not start"

host=$(hostname -s)
{
  cat <<C
ClusterName=doseledger$(printf %s "$folder" | cksum | cut -d' ' -f1)
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.socket
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=UsePss,OverMemoryKill
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=5,batch_sched_delay=0
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=2
CompleteWait=0
SlurmdTimeout=15
SlurmctldTimeout=20
OverTimeLimit=0
JobRequeue=0
AccountingStorageType=accounting_storage/none
C
  for i in $(seq "$nodes"); do
    gpu=""; [ "$i" = 1 ] && gpu=" Gres=gpu:1"
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((16900 + i)) CPUs=1 RealMemory=$mem_mb State=UNKNOWN$gpu"
  done
  echo "PartitionName=main Nodes=$(seq -s, -f 'n%g' "$nodes") Default=YES MaxTime=1-00:00:00 DefMemPerCPU=500 State=UP"
} >"$folder/etc/slurm.conf"
: >"$folder/gpu"
echo "NodeName=n1 Name=gpu File=$folder/gpu" >"$folder/etc/gres.conf"
printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n' >"$folder/etc/cgroup.conf"
# At its standard place: Snakemake's job step drops SLURM_CONF before it calls srun. The mount is the box's own.
mkdir -p /etc/slurm
mount --bind "$folder/etc" /etc/slurm

slurmctld || die "slurmctld does not start"
for i in $(seq "$nodes"); do
  mkdir -p "$folder/spool-n$i"
  slurmd -N "n$i" || die "slurmd n$i does not start"
done
SECONDS=0
while [ $SECONDS -lt 60 ]; do
  kill -0 "$(cat "$folder/run/slurmctld.pid")" || die "slurmctld has ended"
  [ "$(timeout 5 sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = "$nodes" ] && exit 0
  sleep 0.2
done
sinfo -R >&2 || true
die "the nodes do not become idle"
