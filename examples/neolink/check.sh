#!/bin/bash
# Runs inside the private root that setup.sh made. Starts `supervisord -c /init/supervisor/supervisor.ini`, where
# supervisord is a link to inpod, the way the image's boot script does, and checks it with the real supervisorctl.
set -uo pipefail

failures=0
ok() { echo "ok    $1"; }
bad() {
    echo "FAIL  $1"
    shift
    [ $# -eq 0 ] || printf '      %s\n' "$@"
    failures=$((failures + 1))
}
# wait_for SECONDS COMMAND… tries until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}
ctl() { /usr/bin/supervisorctl -s unix:///run/inpod/inpod.sock "$@"; }
running() { ctl status | grep -cE '^[a-z]+ +RUNNING '; }
runs() { [ "$(running)" = "$1" ]; }
# greeting PORT: what the tool on that port says, "name pid". A tool is RUNNING before it listens.
greets() { (exec 3<>"/dev/tcp/127.0.0.1/$1" && head -n 1 <&3); }
greeting() {
    wait_for 60 greets "$1"
    greets "$1"
}

agent=
start() {
    supervisord -c /init/supervisor/supervisor.ini >/tmp/stdout 2>&1 &
    agent=$!
}
stop() {
    ctl shutdown >/dev/null
    wait "$agent"
    local code=$?
    if [ "$code" = 0 ]; then ok "shutdown: exit code 0"; else bad "shutdown: exit code $code, want 0"; fi
    if [ -e /tmp/supervisord.pid ]; then bad "pidfile is left behind"; else ok "pidfile is gone"; fi
    if pgrep -f '/usr/local/s?bin/' >/dev/null; then bad "processes are left" "$(pgrep -af '/usr/local/s?bin/')"; else ok "no process is left"; fi
}

echo "# a base image: /etc/supervisord/supervisor-other.ini does not exist"
start
if wait_for 60 runs 3; then ok "three programs RUNNING"; else bad "want three programs RUNNING" "$(ctl status)" "$(tail -n 20 /tmp/stdout)"; fi
for tool in "sshd 22" "jupyter-lab 8888" "tensorboard 6006"; do
    read -r name port <<<"$tool"
    got=$(greeting "$port" 2>&1)
    case $got in
    "$name "*) ok "$name answers on port $port" ;;
    *) bad "$name on port $port" "got:  $got" "want: $name <pid>" ;;
    esac
done
got=$(cat /tmp/supervisord.pid)
if [ "$got" = "$agent" ]; then ok "pidfile holds the agent's pid"; else bad "pidfile" "got:  $got" "want: $agent"; fi

# logged TEXT FILE: what a tool writes comes a moment later.
logged() { wait_for 60 grep -q "$1" "$2"; }
if logged 'sshd: listening on port 22' /tmp/stdout && logged 'sshd: a line on stderr' /tmp/stdout; then
    ok "stdout_logfile=/dev/stdout: both streams of sshd are on the container's stdout"
else
    bad "sshd's output is not on stdout" "$(tail -n 20 /tmp/stdout)"
fi
for tool in jupyterlab tensorboard; do
    if logged 'listening on port' "/tmp/$tool.out.log" && logged 'a line on stderr' "/tmp/$tool.err.log"; then
        ok "logs of $tool are in /tmp"
    else
        bad "logs of $tool" "$(head /tmp/"$tool".*.log)"
    fi
done
got=$(cat /tmp/jupyterlab.out.log)
case $got in
*" in /root") ok "directory=/root" ;;
*) bad "directory=/root" "got:  $got" ;;
esac

read -r _ before <<<"$(greeting 6006)"
kill -KILL "$before"
restarted() { read -r _ after <<<"$(greets 6006)" && [ -n "$after" ] && [ "$after" != "$before" ]; }
if wait_for 60 restarted; then ok "a killed tool is restarted"; else bad "tensorboard was not restarted" "$(ctl status)"; fi

echo "# the image gets its own tool: supervisor-other.ini appears"
cp /supervisor-other.ini /etc/supervisord/
got=$(ctl reread)
if [ "$got" = "ollama: available" ]; then ok "reread: $got"; else bad "reread" "got:  $got" "want: ollama: available"; fi
got=$(ctl update)
if [ "$got" = "ollama: added process group" ]; then ok "update: $got"; else bad "update" "got:  $got" "want: ollama: added process group"; fi
if wait_for 60 runs 4; then ok "four programs RUNNING"; else bad "want four programs RUNNING" "$(ctl status)"; fi
stop

echo "# an Ollama image: the file is there from the start"
start
if wait_for 60 runs 4; then ok "four programs RUNNING"; else bad "want four programs RUNNING" "$(ctl status)" "$(tail -n 20 /tmp/stdout)"; fi
read -r _ pid <<<"$(greeting 11434)"
got=$(ctl pid ollama)
if [ -n "$pid" ] && [ "$got" = "$pid" ]; then ok "ollama with only command= answers, its pid is right"; else bad "ollama" "pid of supervisorctl: $got" "pid on the port:      $pid"; fi
tail_has() { got=$(ctl tail ollama) && [[ $got = *"$1"* ]]; }
wait_for 60 tail_has 'listening on port'
case $got in
*"ollama: listening on port 11434"*) ok "ollama's log (AUTO) can be read" ;;
*) bad "tail ollama" "got:  $got" ;;
esac
got=$(ctl restart jupyterlab)
if [ "$got" = $'jupyterlab: stopped\njupyterlab: started' ]; then ok "restart jupyterlab"; else bad "restart jupyterlab" "got:  $got"; fi
stop

if [ "$failures" -gt 0 ]; then
    echo "$failures checks failed"
    exit 1
fi
echo "all checks passed"
