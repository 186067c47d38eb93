"""The texts that a board is configured by: systemd units, boot tuning, overlays; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

USER = "hil-lab"
CURRENT, STATE, CONFIG = "/opt/hil-lab/current", "/var/lib/hil-lab", "/etc/hil-lab"
AGENT_UNIT, TUNE_UNIT = "hil-lab-agent.service", "hil-lab-tune.service"
SYSCTL = "/etc/sysctl.d/60-hil-lab.conf"
# Groups of Raspberry Pi OS and Debian that may read sensors and the firmware's mailbox.
GROUPS = ("video", "i2c", "gpio")
MEMORY_MAX = "85%"
BEGIN, END = "# hil-lab: begin, changed by `hil-lab provision`", "# hil-lab: end"

# docs/security.md says what programs need of the unit: namespaces, seccomp and a user of their own.
_AGENT = """[Unit]
Description=hil-lab agent of {name}
After=network-online.target {tune}
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/bin/python3 -S -m device_agent --bind {bind} --state {state}/agent \\
    --name {name} --kind {kind} --require-sandbox --pin{no_aslr} {tls}
WatchdogSec=60
Restart=always
RestartSec=2
TimeoutStopSec=20
# A program must not die before its agent: that would look like a crash of the program.
KillMode=mixed
User={user}
Group={user}
Environment=PYTHONPATH={current}/site:{current}
Environment=HIL_TVM_RUNTIME={current}/libtvm_runtime.so
Environment=PYTHONDONTWRITEBYTECODE=1

# Limits: the board's own daemons must live whatever a program does.
MemoryMax={memory}
TasksMax=512
LimitNOFILE=4096
LimitCORE=0
OOMPolicy=continue
Nice=-5

# No privilege at all: with perf_event_paranoid at 2 a process counts its own events.
CapabilityBoundingSet=
PrivateUsers=yes
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={state}
StateDirectory=hil-lab
StateDirectoryMode=0750
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality={lock}
RemoveIPC=yes
UMask=0077
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount perf_event_open seccomp unshare setns personality
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=user mnt net pid ipc uts
PrivateDevices=yes

[Install]
WantedBy=multi-user.target
"""

_TUNE = """[Unit]
Description=hil-lab: a steady clock, quiet cores and the meters of the board
Before={agent}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {config}/tune.sh start
ExecStop=/bin/sh {config}/tune.sh stop

[Install]
WantedBy=multi-user.target
"""

# What it finds it keeps under /run, and `stop` puts it back.
_TUNE_SCRIPT = """# By `hil-lab provision`: `start` tunes the board, `stop` undoes it.
kept=/run/hil-lab-tune
meters="{meters}"
lights="/sys/class/leds/ACT /sys/class/leds/PWR /sys/class/leds/led0 /sys/class/leds/led1"
case "$1" in
start)
    mkdir -p $kept
    for cpu in /sys/devices/system/cpu/cpu*/cpufreq; do
        [ -w "$cpu/scaling_governor" ] || continue
        name=$(echo "$cpu" | tr / _)
        [ -e "$kept/$name" ] || {{
            echo "$(cat "$cpu/scaling_governor") $(cat "$cpu/scaling_min_freq")" > "$kept/$name"
        }}
        echo performance > "$cpu/scaling_governor"
        cat "$cpu/cpuinfo_max_freq" > "$cpu/scaling_min_freq"
    done
    # The first core is the daemon's; interrupts that belong to a core refuse to move.
    for irq in /proc/irq/default_smp_affinity /proc/irq/[0-9]*/smp_affinity; do
        [ -w "$irq" ] || continue
        name=$(echo "$irq" | tr / _)
        [ -e "$kept/$name" ] || cat "$irq" > "$kept/$name"
        echo 1 2> /dev/null > "$irq" || true
    done
    for light in $lights; do
        [ -w "$light/trigger" ] || continue
        name=$(echo "$light" | tr / _)
        [ -e "$kept/$name" ] || {{
            echo "$(sed 's/.*\\[//; s/\\].*//' "$light/trigger") $(cat "$light/brightness")" \\
                > "$kept/$name"
        }}
        echo none > "$light/trigger"
        echo 0 > "$light/brightness"
    done
    for meter in $meters; do
        bus=/sys/bus/i2c/devices/i2c-1
        address=$(echo "$meter" | cut -d@ -f2)
        [ -d "$bus" ] || modprobe i2c-dev
        [ -e "$bus/1-00${{address#0x}}" ] || echo "$(echo "$meter" | cut -d@ -f1) $address" \\
            > "$bus/new_device"
    done
    ;;
stop)
    for cpu in /sys/devices/system/cpu/cpu*/cpufreq; do
        name=$(echo "$cpu" | tr / _)
        [ -e "$kept/$name" ] || continue
        read -r governor least < "$kept/$name"
        echo "$least" > "$cpu/scaling_min_freq"
        echo "$governor" > "$cpu/scaling_governor"
    done
    for irq in /proc/irq/default_smp_affinity /proc/irq/[0-9]*/smp_affinity; do
        name=$(echo "$irq" | tr / _)
        [ -e "$kept/$name" ] || continue
        cat "$kept/$name" 2> /dev/null > "$irq" || true
    done
    for light in $lights; do
        name=$(echo "$light" | tr / _)
        [ -e "$kept/$name" ] || continue
        read -r trigger brightness < "$kept/$name"
        echo "$brightness" > "$light/brightness"
        echo "$trigger" > "$light/trigger"
    done
    for meter in $meters; do
        echo "$(echo "$meter" | cut -d@ -f2)" > /sys/bus/i2c/devices/i2c-1/delete_device || true
    done
    rm -rf $kept
    ;;
esac
exit 0
"""


def agent_unit(name: str, kind: str, bind: str, *, aslr: bool = True) -> str:
    """Return the agent's hardened unit; it listens with the certificates of /etc/hil-lab.

    Without `aslr` programs have the same addresses in every run, which takes personality().
    """
    tls = (
        f"--tls-cert {CONFIG}/agent.crt --tls-key {CONFIG}/agent.key --tls-client-ca "
        f"{CONFIG}/ca.crt --revoked {CONFIG}/revoked.txt"
    )
    return _AGENT.format(
        name=name,
        kind=kind,
        bind=bind,
        tls=tls,
        user=USER,
        current=CURRENT,
        state=STATE,
        tune=TUNE_UNIT,
        memory=MEMORY_MAX,
        no_aslr="" if aslr else " --no-aslr",
        lock="yes" if aslr else "no",
    )


def tune_unit() -> str:
    """Return the unit that tunes the board at boot and undoes it when stopped."""
    return _TUNE.format(agent=AGENT_UNIT, config=CONFIG)


def tune_script(meters: Sequence[str] = ()) -> str:
    """Return what that unit runs; meters are `driver@address`, such as ina226@0x40."""
    return _TUNE_SCRIPT.format(meters=" ".join(meters))


def sysctl() -> str:
    """Return kernel settings: processes may count their own events, programs get namespaces."""
    return "kernel.perf_event_paranoid = 2\nkernel.unprivileged_userns_clone = 1\n"


def boot_block(before: str) -> str:
    """Return the firmware's config.txt with our block: I2C on, HDMI off; the rest stays."""
    ours = [BEGIN, "[all]", "dtparam=i2c_arm=on", "hdmi_blanking=2", END]
    return without_block(before).rstrip("\n") + "\n\n" + "\n".join(ours) + "\n"


def without_block(text: str) -> str:
    """Return a config.txt without our block."""
    kept, inside = [], False
    for line in text.splitlines():
        inside = inside or line == BEGIN
        if not inside:
            kept.append(line)
        inside = inside and line != END
    return "\n".join(kept).rstrip("\n") + "\n"
