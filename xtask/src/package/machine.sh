#!/bin/sh
# Runs in the machine as root; each line `name=value` that it prints is judged by machine.rs.
cd /trial && exec > result 2>&1 < /dev/null

config=/etc/tidegate/tidegate.toml
show() { systemctl show --property "$1" --value tidegate.service; }
# This machine has no hosts file.
client() { program=$1; shift; "$program" -V 5 -h 127.0.0.1 -u press-7 -P secret -t hall1/last "$@"; }
kept() { client mosquitto_sub -C 1 -W 10; }
# The addresses of sockets that wait for others: TCP in state LISTEN, UDP without a peer.
waiting() {
    cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 |
        awk '$4 == "0A" || $4 == "07" { print $2 }'
}

# As installed: enabled, active, port 1883 on loopback and nothing beyond it, and nobody gets in.
dpkg --install tidegate.deb
echo "enabled=$(systemctl is-enabled tidegate)"
echo "active=$(systemctl is-active tidegate)"
echo "watchdog=$(show WatchdogUSec)"
tidegate status -c $config && echo "answers=yes"
echo "loopback=$(waiting | grep -c '^0100007F:075B$')"
echo "beyond=$(waiting | grep -v -c -e '^0100007F:' -e '^0\{24\}01000000:')"
# The reason codes of MQTT 5: bad user name or password, not authorized.
client mosquitto_pub -m stranger
echo "stranger=$?"
mosquitto_pub -V 5 -h 127.0.0.1 -t hall1/last -m nobody
echo "anonymous=$?"

# What root makes, the service can read; keys that are not its own it cannot.
echo secret | tidegate user add press-7 --secrets /etc/tidegate/secrets >> $config
printf '[[access]]\nprincipal = "press-7"\npublish = ["#"]\nsubscribe = ["#"]\n' >> $config
tidegate cert init --dir /etc/tidegate/certs > /dev/null
echo "secret=$(stat --format '%U %a' /etc/tidegate/secrets/press-7.hash)"
echo "keys=$(cd /etc/tidegate/certs && stat --format %U ca.key ca.pem server.key server.pem | xargs)"
systemctl restart tidegate
client mosquitto_pub -q 1 -r -m kept && echo "login=yes"

# Killed, it comes again; left alone for longer than the watchdog's patience, it stays.
first=$(show MainPID)
systemctl kill --signal KILL tidegate
for second in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1
    [ "$(systemctl is-active tidegate)" = active ] && [ "$(show MainPID)" != "$first" ] && break
done
echo "restarts=$(show NRestarts)"
second=$(show MainPID)
sleep 35
[ "$(show MainPID)" = "$second" ] && echo "watched=yes"
echo "exposure=$(systemd-analyze security tidegate --no-pager | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')"

# An upgrade starts the new program and keeps data and configuration as they are, without asking.
edited=$(sha256sum $config)
dpkg --install next.deb
[ "$(show MainPID)" != "$second" ] && echo "upgraded=$(systemctl is-active tidegate)"
[ "$(sha256sum $config)" = "$edited" ] && echo "configuration-upgraded=kept"
echo "data-upgraded=$(kept)"

systemctl stop tidegate
echo "stopped=$(show Result) $(show ExecMainStatus)"

# The whole of the gateway, all four protocols, under the restrictions of the unit.
sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/tidegate demo --for 10s|' -e 's/^Type=.*/Type=oneshot/' \
    -e '/^NotifyAccess=/d' -e '/^WatchdogSec=/d' -e '/^Restart/d' -e '/^TimeoutStartSec=/d' \
    /usr/lib/systemd/system/tidegate.service > /etc/systemd/system/tidegate-demo.service
systemctl daemon-reload
systemctl start tidegate-demo && echo "demo=ended"
journalctl --boot --unit tidegate-demo --no-pager --output cat | sed 's/^/demo: /'

# A removal takes the service away and keeps data and configuration.
dpkg --remove tidegate
echo "removed=$(systemctl is-active tidegate)"
[ "$(sha256sum $config)" = "$edited" ] && echo "configuration-removed=kept"
dpkg --install next.deb
echo "data-removed=$(kept)"

dpkg --purge tidegate
journalctl --boot --unit tidegate --no-pager | grep -v '^--'
for left in /etc/tidegate /var/lib/tidegate /run/tidegate; do
    [ -e "$left" ] && echo "left=$left"
done
echo "done=yes"
