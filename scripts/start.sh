#!/usr/bin/env bash
# Starts a network of nodes on this machine and ends it again.
#
#   scripts/start.sh [COUNT [FIRST_PORT]]      100 nodes from port 8003, unless told otherwise
#
# A control node must already run; `cargo run --release` is one, on 127.0.0.1:8001. Each node
# bootstraps from it and writes its log to log/PORT.log. The script builds the program, checks that
# everything can work before it starts anything, prints port, id and process of each node, waits
# until all have joined and answer, and stays until Ctrl-C (or TERM, HUP), which ends its nodes.
#
# Settings, from the environment:
#   KADEMLUA            a program to run as it is; nothing is built then
#   KADEMLUA_BOOTSTRAP  the control node, 127.0.0.1:8001
#   KADEMLUA_LOG_DIR    where the logs go, log/ beside this script's folder
#
# Exit status: 1 something was missing or a node failed, 2 bad arguments, 128 + n after signal n.

set -uo pipefail
declare -a pids=() logs=() # by port; in order
declare -A ids=()          # by port
signal=0                   # the last that came
export LC_ALL=C # a byte is a character, the decimal point is a point

readonly threads_per_node=3 # two at work, and room for the moment of starting
readonly files_per_node=64
readonly join_seconds=60 # far more than a slow machine takes
readonly grace_seconds=3

say() { printf '%s\n' "$*"; }

refuse() {
    printf 'start.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

usage() {
    refuse "$1
usage: scripts/start.sh [COUNT [FIRST_PORT]], such as scripts/start.sh 100 8003" 2
}

# Sleeps, without a process.
rest() { read -r -t "$1" -u 5; }

# What a signal's trap leaves to do. The traps only take note: to exit from one would abandon
# whatever the shell is amid, and it does not survive that everywhere.
heed() { ((signal == 0)) || exit $((128 + signal)); }

pause() {
    rest "$1"
    heed
}

# A pipe that nobody writes to, for rest to read from.
open_silence() {
    local folder
    folder=$(mktemp -d) || refuse "cannot make a temporary folder"
    mkfifo -- "$folder/silence" || refuse "cannot make $folder/silence"
    exec 5<>"$folder/silence"
    rm -rf -- "$folder"
}

now_us() { now=${EPOCHREALTIME/./}; }

# --- what was asked for -------------------------------------------------------------------------

read_arguments() {
    (($# <= 2)) || usage "at most two arguments are taken, $# came"
    count=${1-100} first=${2-8003}
    [[ $count =~ ^[1-9][0-9]{0,4}$ ]] || usage "COUNT is a whole number from 1, not '$count'"
    [[ $first =~ ^[1-9][0-9]{0,4}$ ]] || usage "FIRST_PORT is a port from 1 to 65535, not '$first'"
    last=$((first + count - 1))
    ((last <= 65535)) || usage "$count nodes from port $first would need port $last; 65535 is the last"
}

read_settings() {
    bootstrap=${KADEMLUA_BOOTSTRAP:-127.0.0.1:8001}
    log_dir=${KADEMLUA_LOG_DIR:-$root/log}
    mkdir -p -- "$log_dir" || refuse "cannot make the log folder $log_dir"
}

# --- what must be there before anything starts --------------------------------------------------

check_limits() {
    local tasks=$((count * threads_per_node)) limit
    limit=$(ulimit -Sn)
    if [[ $limit != unlimited ]] && ((limit < files_per_node)); then
        ulimit -Sn "$files_per_node" 2>/dev/null ||
            refuse "too few file descriptors: 'ulimit -n' is $limit, a node needs up to $files_per_node"
    fi
    limit=$(ulimit -Su)
    if [[ $limit != unlimited ]]; then
        # What cannot suffice is refused before the counting, which needs processes itself.
        ((limit >= tasks)) || refuse_tasks "'ulimit -u' is $limit"
        local running
        running=$(tasks_of_user)
        ((limit - running >= tasks)) || refuse_tasks "'ulimit -u' is $limit and $running are in use"
    fi
    check_control_group "$tasks"
}

refuse_tasks() {
    refuse "too few processes: $1, $count nodes need up to $((count * threads_per_node)) more"
}

# Linux counts threads against `ulimit -u`. Elsewhere there is no /proc, and this is 0.
tasks_of_user() {
    cat /proc/[0-9]*/status 2>/dev/null |
        awk -v uid="$UID" '
            /^Uid:/ { mine = $2 == uid }
            /^Threads:/ && mine { n += $2 }
            END { print n + 0 }'
}

# A container often has a limit of its own.
check_control_group() {
    local path limit running
    [[ -r /proc/self/cgroup ]] || return 0
    while IFS=: read -r _ _ path; do
        { read -r limit <"/sys/fs/cgroup$path/pids.max"; } 2>/dev/null || continue
        { read -r running <"/sys/fs/cgroup$path/pids.current"; } 2>/dev/null || continue
        [[ $limit == max ]] || ((limit - running >= $1)) ||
            refuse_tasks "this control group may have $limit and $running are in use"
    done </proc/self/cgroup
}

build() {
    program=${KADEMLUA-}
    if [[ -z $program ]]; then
        # In the background and awaited, so that a signal does not have to wait for the compiler;
        # but Ctrl-C, which what runs in the background ignores, reaches all of the compiler too.
        (trap - INT && cd -- "$root" && exec cargo build --release --locked) &
        wait "$!" || { heed && refuse "the build failed"; }
        program=${CARGO_TARGET_DIR:-$root/target}/release/kademlua
        [[ $program == /* ]] || program=$root/$program
    fi
    [[ -f $program && -x $program ]] || refuse "'$program' is no program"
}

check_ports() {
    local taken=()
    if [[ -r /proc/net/udp ]]; then
        list_taken_ports /proc/net/udp /proc/net/udp6
    else
        probe_taken_ports
    fi
    ((${#taken[@]} == 0)) ||
        refuse "already in use: UDP port ${taken[*]}; end what runs there or name another FIRST_PORT"
}

# The kernel's tables: "sl local_address …", the address in hexadecimal, each word in the order of
# the machine's bytes. A socket on all addresses has the ports of 127.0.0.1 too.
list_taken_ports() {
    local table address port
    local here='0100007F|7F000001|0*|0{16}FFFF0000(0100007F|00000000)'
    local -A seen=()
    for table; do
        [[ -r $table ]] || continue
        while read -r _ address _; do
            [[ $address =~ ^($here):([0-9A-F]{4})$ ]] || continue
            port=$((16#${BASH_REMATCH[3]}))
            ((port >= first && port <= last)) || continue
            [[ -n ${seen[$port]-} ]] || taken+=("$port")
            seen[$port]=1
        done <"$table"
    done
}

# Where those tables are missing: a free port refuses at once; silence means that someone listens.
probe_taken_ports() {
    local port
    for ((port = first; port <= last; port++)); do
        ask 127.0.0.1 "$port" 0.2
        (($? == 1)) || taken+=("$port")
    done
}

# By the program itself, so that what it cannot use is refused here and not by each node.
check_control() {
    local problem status
    problem=$("$program" ping -- "$bootstrap" 2>&1 >/dev/null)
    status=$?
    heed
    case $status in
    0) ;;
    2) usage "KADEMLUA_BOOTSTRAP is ADDRESS:PORT or a port, not '$bootstrap':
$problem" ;;
    *) refuse "no control node answers at $bootstrap; start one first: cargo run --release" ;;
    esac
}

# --- asking a node ------------------------------------------------------------------------------

# ids[PORT] is the SHA-1 of the port in decimal, which on loopback is the id of its node. One
# process for all of them, fed with a file a port.
compute_ids() {
    local folder port id
    folder=$(mktemp -d) || refuse "cannot make a temporary folder"
    for ((port = first; port <= last; port++)); do
        printf %s "$port" >"$folder/$port"
    done
    while read -r id port; do
        ids[${port#\*}]=$id
    done < <(cd -- "$folder" && sha1 -- *)
    rm -rf -- "$folder"
}

sha1() {
    if command -v sha1sum >/dev/null; then sha1sum "$@"; else shasum "$@"; fi
}

# ask HOST PORT SECONDS: a ping, straight through the shell's own /dev/udp, because a process for
# each of a hundred nodes would take as long as starting them. 0: answered, 1: refused, 2: silent.
#
# A node remembers who asks it. The ping therefore gives the asked node's own id as the sender's,
# the one id that no node keeps, and leaves no dead contact behind.
ask() {
    local id=${ids[$2]} answer="" status
    local frame="\\x01${id//??/\\x&}kademlua\\x01\\x00\\x16d4:name4:ping4:argslee"
    { exec 3<>"/dev/udp/$1/$2"; } 2>/dev/null || return 1
    if [[ ${id//??/&.} == *0a.* ]]; then
        # The shell's own printf would send what stands before a newline as a datagram by itself.
        env printf "$frame" >&3
    else
        # shellcheck disable=SC2059 # the frame is written as a format for its \x
        printf "$frame" >&3
    fi 2>/dev/null
    IFS= read -r -t "$3" -N 1 answer <&3 2>/dev/null
    status=$?
    exec 3>&-
    heed
    [[ $answer != $'\x01' ]] || return 0
    ((status > 128)) && return 2
    return 1
}

# Datagrams get lost on a loaded machine even here, so one may go unanswered.
answers() {
    local try
    for try in 0.5 1 2; do
        ask "$1" "$2" "$try"
        case $? in
        0) return 0 ;;
        1) return 1 ;;
        esac
    done
    return 1
}

# --- the nodes ----------------------------------------------------------------------------------

start_nodes() {
    local port log
    for ((port = first; port <= last; port++)); do
        log=$log_dir/$port.log
        # Emptied here: the child may come to it only after the first look for "joined".
        : >"$log" || refuse "cannot write $log"
        "$program" serve "$port" --bootstrap "$bootstrap" --log info </dev/null >"$log" 2>&1 5<&- &
        pids[port]=$!
        logs+=("$log")
        say "$port : ${ids[$port]} : process $!"
        heed
    done
}

# A node's log says "joined" when its bootstrap has found others. One grep reads all logs.
await_joined() {
    local waiting deadline
    now_us
    deadline=$((now + join_seconds * 1000000))
    while
        # Its exit status means different things in different versions.
        waiting=$(grep -L joined -- "${logs[@]}")
        [[ -n $waiting ]]
    do
        check_alive
        now_us
        ((now < deadline)) || refuse "not joined within $join_seconds s, see their logs:
$waiting"
        pause 0.05
    done
}

await_answers() {
    local port
    for ((port = first; port <= last; port++)); do
        answers 127.0.0.1 "$port" && continue
        check_alive
        refuse "the node on port $port joined but does not answer; its log: $log_dir/$port.log"
    done
}

check_alive() {
    local port
    for port in "${!pids[@]}"; do
        kill -0 "${pids[port]}" 2>/dev/null && continue
        refuse "the node on port $port ended early; the end of $log_dir/$port.log:
$(tail -n 5 -- "$log_dir/$port.log")"
    done
}

# Stays while nodes run, and names those that end.
await_end() {
    local port
    # The shell would report each killed node in its own words.
    exec 4>&2 2>/dev/null
    while ((${#pids[@]} > 0)); do
        pause 0.2
        for port in "${!pids[@]}"; do
            kill -0 "${pids[port]}" && continue
            unset "pids[port]"
            say "$port ended; ${#pids[@]} of $count still run"
        done
    done
    refuse "all nodes have ended" 2>&4
}

# The shell's list of jobs, unlike a list of process numbers, never names a stranger that got the
# number of a child long gone.
# shellcheck disable=SC2317 # reached through the trap on EXIT
end_children() {
    local children deadline
    trap '' HUP INT PIPE TERM
    exec 2>/dev/null
    now_us
    deadline=$((now + grace_seconds * 1000000))
    children=$(jobs -pr)
    # shellcheck disable=SC2086 # one word a process
    kill -TERM $children
    while children=$(jobs -pr) && [[ -n $children ]]; do
        now_us
        # shellcheck disable=SC2086
        ((now < deadline)) || kill -KILL $children
        rest 0.02
    done
}

main() {
    ((BASH_VERSINFO[0] >= 5)) || refuse "bash 5 is needed, this is $BASH_VERSION"
    local started built
    now_us
    started=$now

    trap end_children EXIT
    trap 'signal=1' HUP
    trap 'signal=2' INT
    trap 'signal=13' PIPE
    trap 'signal=15' TERM
    open_silence

    root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
    read_arguments "$@"
    read_settings
    check_limits
    now_us
    built=$now
    build
    now_us
    started=$((started + now - built))
    compute_ids
    check_ports
    check_control

    start_nodes
    await_joined
    await_answers
    now_us
    local tenths=$(((now - started + 50000) / 100000))
    say "$count nodes answer after $((tenths / 10)).$((tenths % 10)) s. Ctrl-C ends them."
    await_end
}

main "$@"
