#!/usr/bin/env bash
# Starts a network of nodes on this machine and ends it again.
#
#   scripts/start.sh [COUNT [FIRST_PORT]] [-- OPTION…]    100 nodes from port 8003, unless told otherwise
#   scripts/start.sh status                               whether each running node answers
#   scripts/start.sh restart PORT                         ends one node and starts it again
#   scripts/start.sh stop                                 ends the network, from another terminal
#
# A control node must already run; `cargo run --release` is one, on 127.0.0.1:8001. Each node
# bootstraps from it and writes its log to log/PORT.log. The script builds the program, checks that
# everything can work before it starts anything, prints port, id and process of each node, waits
# until all have joined and answer, and stays until Ctrl-C (or TERM, HUP), which ends its nodes. They
# end too when the script is killed. With 0 for FIRST_PORT it takes ports that are free.
#
# All options behind -- go to each node as they are, for instance: -- --config node.lua --state
# /tmp/net. In the folder of --state each node gets one of its own, named by its port. `kademlua
# serve --help` lists the options. The processes are listed in log/network-FIRST_PORT.pids.
#
# Settings, from the environment:
#   KADEMLUA            a program to run as it is; nothing is built then
#   KADEMLUA_BOOTSTRAP  the control node, 127.0.0.1:8001; the options may have --bootstrap instead
#   KADEMLUA_LOG_DIR    where the logs go, log/ beside this script's folder
#
# Exit status: 1 something was missing or a node failed, 2 bad arguments, 3 no network runs (status,
# restart), 128 + n after signal n.

set -uo pipefail
declare -a pids=() starts=() ids=() addresses=() # by port; of processes when they began
declare -a options=()                            # for each node
declare -a bootstraps=()
state="" # the folder of the nodes' states
signal=0                                         # the last signal
network=""                                       # the start of the names of this network's files
readonly no_id=0000000000000000000000000000000000000000
export LC_ALL=C # a byte is a character, the decimal point is a point

readonly threads_per_node=3 # two at work, and room for the moment of starting
readonly files_per_node=64
readonly join_seconds=60 # far more than a slow machine takes
readonly grace_seconds=3
readonly ports_tries=100

say() { printf '%s\n' "$*"; }

refuse() {
    printf 'start.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

usage() {
    refuse "$1
usage: scripts/start.sh [COUNT [FIRST_PORT]] [-- OPTION…], such as scripts/start.sh 100 8003
       scripts/start.sh status | restart PORT | stop | --help" 2
}

# The comment at the top.
show_help() { sed -n '2,/^$/s/^# \{0,1\}//p' -- "${BASH_SOURCE[0]}"; }

# Sleeps, without a process.
rest() { read -r -t "$1" -u 5; }

# The work that a signal's trap leaves. The traps only take note: to exit from one would abandon
# whatever the shell is amid, and it does not survive that everywhere.
heed() { ((signal == 0)) || exit $((128 + signal)); }

pause() {
    rest "$1"
    heed
}

# A pipe that nobody writes to, for rest to read from. Nodes have its reading end, 6, as their standard
# input: once this process, which alone has the writing end, is gone, they end too.
open_silence() {
    local folder
    folder=$(mktemp -d) || refuse "cannot make a temporary folder"
    mkfifo -- "$folder/silence" || refuse "cannot make $folder/silence"
    exec 5<>"$folder/silence"
    exec 6<"$folder/silence"
    rm -rf -- "$folder"
}

now_us() { now=${EPOCHREALTIME/./}; }

# --- what was asked for -------------------------------------------------------------------------

read_arguments() {
    local words=()
    while (($# > 0)) && [[ $1 != -- ]]; do
        words+=("$1")
        shift
    done
    shift $(($# > 0))
    read_options "$@"
    ((${#words[@]} <= 2)) || usage "at most two arguments are taken, ${#words[@]} came"
    count=${words[0]-100} first=${words[1]-8003}
    [[ $count =~ ^[1-9][0-9]{0,4}$ ]] || usage "COUNT is a whole number from 1, not '$count'"
    [[ $first =~ ^(0|[1-9][0-9]{0,4})$ ]] ||
        usage "FIRST_PORT is a port, or 0 for any that are free, not '$first'"
    last=$((first + count - 1))
}

# Options that nodes cannot share are taken out; the nodes judge the others.
read_options() {
    while (($# > 0)); do
        case $1 in
        --state=*) state=${1#*=} ;;
        --state)
            (($# > 1)) || usage "--state takes a folder"
            state=$2
            shift
            ;;
        --bootstrap=*) bootstraps+=("${1#*=}") ;;
        --bootstrap)
            (($# > 1)) || usage "--bootstrap takes ADDR:PORT"
            bootstraps+=("$2")
            shift
            ;;
        *) options+=("$1") ;;
        esac
        shift
    done
}

read_settings() {
    if [[ -n ${KADEMLUA_BOOTSTRAP-} ]] || ((${#bootstraps[@]} == 0)); then
        bootstraps+=("${KADEMLUA_BOOTSTRAP:-127.0.0.1:8001}")
    fi
    find_logs
    mkdir -p -- "$log_dir" || refuse "cannot make the log folder $log_dir"
}

find_logs() { log_dir=${KADEMLUA_LOG_DIR:-$root/log}; }

# All that the node on a port is told.
arguments_of() {
    local bootstrap
    own=(serve "$1" --until-eof)
    for bootstrap in "${bootstraps[@]}"; do
        own+=(--bootstrap "$bootstrap")
    done
    [[ -z $state ]] || own+=(--state "$state/$1")
    own+=("${options[@]}")
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
        # A limit that cannot suffice is refused before the counting, which needs processes itself.
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
        # but Ctrl-C, which background processes ignore, reaches all of the compiler too.
        (trap - INT && cd -- "$root" && exec cargo build --release --locked) &
        wait "$!" || { heed && refuse "the build failed"; }
        program=${CARGO_TARGET_DIR:-$root/target}/release/kademlua
        [[ $program == /* ]] || program=$root/$program
    fi
    [[ -f $program && -x $program ]] || refuse "'$program' is no program"
}

# The program itself checks the options of the first node and the last: it refuses those that it
# cannot use, and those that would make both the same node.
check_arguments() {
    local port said own id previous=""
    for port in "$first" "$last"; do
        arguments_of "$port"
        said=$("$program" "${own[@]}" --check 2>&1) || {
            heed
            usage "a node on port $port cannot run so:
$said"
        }
        heed
        id=""
        [[ ! $said =~ \ id=([0-9a-f]{40}) ]] || id=${BASH_REMATCH[1]}
        if ((count > 1)) && [[ -n $id && $id == "$previous" ]]; then
            usage "each node needs an id of its own; leave out --id, and id in the configuration"
        fi
        previous=$id
    done
}

check_ports() {
    local taken=()
    find_taken_ports
    ((${#taken[@]} == 0)) ||
        refuse "already in use: UDP port ${taken[*]}; end what runs there or name another FIRST_PORT"
}

# Ports in a row that are free, below those that the system hands out.
choose_ports() {
    local try taken
    ((first == 0)) || return 0
    for ((try = 0; try < ports_tries; try++)); do
        first=$((10000 + RANDOM % 20000)) taken=()
        last=$((first + count - 1))
        find_taken_ports
        ((${#taken[@]} > 0)) || return 0
    done
    refuse "no $count UDP ports in a row are free"
}

find_taken_ports() {
    if [[ -r /proc/net/udp ]]; then
        list_taken_ports /proc/net/udp /proc/net/udp6
    else
        probe_taken_ports
    fi
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

# Without those tables: a free port refuses at once; silence means that someone listens.
probe_taken_ports() {
    local port
    for ((port = first; port <= last; port++)); do
        ask "127.0.0.1:$port" "$no_id" 0.2
        (($? == 1)) || taken+=("$port")
    done
}

# One that answers is enough, as it is for the nodes.
check_control() {
    local bootstrap
    for bootstrap in "${bootstraps[@]}"; do
        "$program" ping -- "$bootstrap" >/dev/null 2>&1 && return 0
        heed
    done
    refuse "no control node answers at ${bootstraps[*]}; start one first: cargo run --release"
}

# --- asking a node ------------------------------------------------------------------------------

# ask ADDRESS ID SECONDS: a ping, straight through the shell's own /dev/udp, because a process for
# each of a hundred nodes would take as long as starting them. 0: answered, 1: refused, 2: silent.
#
# A node remembers who asks it. The ping therefore gives the asked node's own id as the sender's,
# the one id that no node keeps, and leaves no dead contact behind.
ask() {
    local host=${1%:*} port=${1##*:} id=$2 answer="" status
    host=${host#[} host=${host%]}
    case $host in
    0.0.0.0) host=127.0.0.1 ;;
    ::) host=::1 ;;
    esac
    local frame="\\x01${id//??/\\x&}kademlua\\x01\\x00\\x16d4:name4:ping4:argslee"
    { exec 3<>"/dev/udp/$host/$port"; } 2>/dev/null || return 1
    if [[ ${id//??/&.} == *0a.* ]]; then
        # The shell's own printf would send the bytes before a newline as a datagram by itself.
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

# --- processes ----------------------------------------------------------------------------------

# When a process began, in words of the system's own. Together with its number this names it for
# good; numbers alone are given out anew.
start_of() {
    local stat
    began=""
    if [[ -r /proc/self/stat ]]; then
        { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
        # The name, in parentheses, may hold anything. The start is the twentieth field after it.
        read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ began _ <<<"${stat##*) }"
    else
        began=$(ps -o lstart= -p "$1" 2>/dev/null)
        began=${began// /_}
    fi
    [[ -n $began ]]
}

# Whether a process is the one that began then, and the caller's.
is_the_one() {
    local process=$1 start=$2 began
    # Process 0 is the asker itself, and stands where there is no process.
    ((process > 0)) && kill -0 "$process" 2>/dev/null && start_of "$process" || return 1
    [[ $began == "$start" ]] || return 1
    [[ ! -d /proc/self || -O /proc/$process ]]
}

# end_processes PROCESS START…: asks them to end, and makes sure that they do.
end_processes() {
    local signal=TERM deadline left i
    now_us
    deadline=$((now + grace_seconds * 1000000))
    while
        left=0
        for ((i = 1; i < $#; i += 2)); do
            is_the_one "${@:i:2}" || continue
            left=1
            kill -"$signal" "${!i}" 2>/dev/null
        done
        ((left))
    do
        now_us
        ((now < deadline)) || signal=KILL
        rest 0.05
    done
}

# --- the nodes ----------------------------------------------------------------------------------

start_nodes() {
    local port
    for ((port = first; port <= last; port++)); do
        start_node "$port"
        heed
    done
}

start_node() {
    local log=$log_dir/$1.log own began
    # Emptied here: the child may come to it only after the first look for "ready".
    : >"$log" || refuse "cannot write $log"
    arguments_of "$1"
    "$program" "${own[@]}" <&6 >"$log" 2>&1 5<&- 6<&- 7<&- &
    pids[$1]=$!
    start_of "$!"
    starts[$1]=$began
    ids[$1]="" addresses[$1]=""
}

# await_ready PORT…: a node says "ready" once it has joined. One grep reads all logs.
await_ready() {
    local waiting=("$@") port deadline line contacts=1
    now_us
    deadline=$((now + join_seconds * 1000000))
    while
        local logs=("${waiting[@]/#/$log_dir/}")
        while read -r line; do
            note_ready "$line"
            ((contacts > 0)) || refuse "a node found nobody to join: $line; see $log_dir"
        done < <(grep -h -m 1 '^ready ' -- "${logs[@]/%/.log}")
        for port in "${!waiting[@]}"; do
            [[ -z ${ids[waiting[port]]} ]] || unset "waiting[port]"
        done
        waiting=("${waiting[@]}")
        ((${#waiting[@]} > 0))
    do
        check_alive
        now_us
        ((now < deadline)) || refuse "not ready within $join_seconds s: port ${waiting[*]}; see $log_dir"
        pause 0.05
    done
}

# Reads "ready port=8003 address=127.0.0.1:8003 id=… contacts=20".
note_ready() {
    [[ $1 =~ ^ready\ port=([0-9]+)\ address=([^ ]+)\ id=([0-9a-f]{40})\ contacts=([0-9]+)$ ]] || return 0
    local port=${BASH_REMATCH[1]}
    addresses[port]=${BASH_REMATCH[2]} ids[port]=${BASH_REMATCH[3]} contacts=${BASH_REMATCH[4]}
    say "$port : ${ids[port]} : process ${pids[port]}"
}

await_answers() {
    local port
    for port; do
        answers "${addresses[port]}" "${ids[port]}" && continue
        check_alive
        refuse "the node on port $port joined but does not answer; its log: $log_dir/$port.log"
    done
}

check_alive() {
    local port
    for port in "${!pids[@]}"; do
        is_the_one "${pids[port]}" "${starts[port]}" && continue
        refuse "the node on port $port ended early; the end of $log_dir/$port.log:
$(tail -n 5 -- "$log_dir/$port.log")"
    done
}

# Stays while nodes run, names those that end, and restarts a node on request.
await_end() {
    local port order began
    # The shell would report each killed node in its own words.
    exec 4>&2 2>/dev/null
    while ((${#pids[@]} > 0)); do
        if IFS= read -r -t 0.2 -u 7 order && [[ $order =~ ^restart\ ([0-9]{1,5})$ ]]; then
            restart_node "${BASH_REMATCH[1]}"
        fi
        heed
        for port in "${!pids[@]}"; do
            is_the_one "${pids[port]}" "${starts[port]}" && continue
            unset "pids[port]"
            say "$port ended; ${#pids[@]} of $count still run"
        done
    done
    refuse "all nodes have ended" 2>&4
}

restart_node() {
    local contacts
    (($1 >= first && $1 <= last)) || return 0
    end_processes "${pids[$1]-0}" "${starts[$1]-}"
    [[ ! -e $log_dir/$1.log ]] || mv -f -- "$log_dir/$1.log" "$log_dir/$1.log.old"
    start_node "$1"
    # If it does not come back, the others go on.
    while [[ -z ${ids[$1]} ]] && is_the_one "${pids[$1]}" "${starts[$1]}"; do
        note_ready "$(grep -h -m 1 '^ready ' -- "$log_dir/$1.log")"
        pause 0.05
    done
    [[ -n ${ids[$1]} ]] || unset "pids[$1]"
    note_network
}

# The shell's list of jobs, unlike a list of process numbers, never names a stranger that got the
# number of a child long gone.
# shellcheck disable=SC2317,SC2329 # reached through the trap on EXIT
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
    [[ -z $network ]] || rm -f -- "$network.pids" "$network.orders"
}

# --- what other terminals want ------------------------------------------------------------------

# A pipe for orders, and a file that lists the processes: process and start of the script, then of
# each node, with its id and its address.
open_network() {
    network=$log_dir/network-$first
    rm -f -- "$network.orders"
    (umask 077 && mkfifo -- "$network.orders") || refuse "cannot make $network.orders"
    exec 7<>"$network.orders"
    note_network
}

note_network() {
    local port began
    start_of "$$"
    {
        say "script $$ $began"
        for port in "${!ids[@]}"; do
            say "$port ${pids[port]-0} ${starts[port]} ${ids[port]:-$no_id} ${addresses[port]:-none}"
        done
    } >"$network.new" || refuse "cannot write $network.new"
    mv -f -- "$network.new" "$network.pids" || refuse "cannot write $network.pids"
}

# Calls a function with each network's name, after reading its file. A file that somebody else has
# written is not believed.
for_each_network() {
    local file port process start id address
    networks=0
    for file in "$log_dir"/network-*.pids; do
        [[ -f $file && -O $file ]] || continue
        pids=() starts=() ids=() addresses=() script=() network=""
        while read -r port process start id address; do
            [[ $process =~ ^[0-9]+$ ]] || continue
            if [[ $port == script ]]; then
                script=("$process" "$start")
            elif [[ $port =~ ^[1-9][0-9]{0,4}$ && $id =~ ^[0-9a-f]{40}$ ]]; then
                pids[port]=$process starts[port]=$start ids[port]=$id addresses[port]=$address
            fi
        done <"$file"
        ((${#script[@]} == 2)) || continue
        "$1" "${file%.pids}"
    done
    network=""
}

# shellcheck disable=SC2317,SC2329 # called by for_each_network
stop_network() {
    local port processes=()
    for port in "${!pids[@]}"; do
        is_the_one "${pids[port]}" "${starts[port]}" && processes+=("${pids[port]}" "${starts[port]}")
    done
    if is_the_one "${script[@]}"; then
        networks=$((networks + 1))
        kill -TERM "${script[0]}" 2>/dev/null
        now_us
        local deadline=$((now + 3 * grace_seconds * 1000000))
        while is_the_one "${script[@]}" && now_us && ((now < deadline)); do
            pause 0.05
        done
    fi
    # Without their script they end by themselves; those that do not are killed.
    end_processes "${processes[@]}"
    rm -f -- "$1.pids" "$1.orders"
    ((${#processes[@]} == 0)) || say "ended: $((${#processes[@]} / 2)) nodes from port ${1##*-}"
}

stop_networks() {
    for_each_network stop_network
    ((networks > 0)) || say "no network runs here"
}

# shellcheck disable=SC2317,SC2329 # called by for_each_network
show_network() {
    local port how
    if ! is_the_one "${script[@]}"; then
        rm -f -- "$1.pids" "$1.orders"
        return
    fi
    networks=$((networks + 1))
    say "${#pids[@]} nodes from port ${1##*-}, of the script in process ${script[0]}:"
    for port in "${!pids[@]}"; do
        if ! is_the_one "${pids[port]}" "${starts[port]}"; then
            how="has ended"
        elif [[ ${addresses[port]} == none ]]; then
            how="starts"
        elif answers "${addresses[port]}" "${ids[port]}"; then
            how="answers"
        else
            how="is silent"
        fi
        [[ $how == answers ]] || missing=1
        say "$port : ${ids[port]} : process ${pids[port]} : $how"
    done
}

show_status() {
    missing=0
    for_each_network show_network
    ((networks > 0)) || refuse "no network runs here; start one: scripts/start.sh" 3
    exit "$missing"
}

# Asks the script of the network that has the port, and waits until it has done so.
# shellcheck disable=SC2317,SC2329 # called by for_each_network
restart_if_there() {
    local port=$restarted
    [[ -n ${pids[port]-} ]] && is_the_one "${script[@]}" || return 0
    networks=$((networks + 1))
    local old="${pids[port]} ${starts[port]}" line deadline
    # The pipe is the script's own; opened so, it does not wait for it.
    printf 'restart %s\n' "$port" 1<>"$1.orders" || refuse "cannot write $1.orders"
    now_us
    deadline=$((now + join_seconds * 1000000))
    while line=$(grep -m 1 "^$port " -- "$1.pids" 2>/dev/null) && [[ $line == "$port $old "* ]]; do
        is_the_one "${script[@]}" || refuse "the script has ended"
        now_us
        ((now < deadline)) || refuse "port $port does not come back; its log: $log_dir/$port.log"
        pause 0.05
    done
    read -r _ pid _ id _ <<<"$line"
    ((pid > 0)) || refuse "port $port does not come back; its log: $log_dir/$port.log"
    say "$port : $id : process $pid"
}

restart_port() {
    [[ $# == 1 && $1 =~ ^[1-9][0-9]{0,4}$ ]] || usage "restart takes the port of one node"
    restarted=$1
    for_each_network restart_if_there
    ((networks > 0)) || refuse "no network here has a node on port $1; see scripts/start.sh status" 3
}

main() {
    ((BASH_VERSINFO[0] >= 5)) || refuse "bash 5 is needed, this is $BASH_VERSION"
    local started built
    now_us
    started=$now
    root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
    case ${1-} in
    -h | --help)
        show_help
        exit
        ;;
    esac

    trap end_children EXIT
    trap 'signal=1' HUP
    trap 'signal=2' INT
    trap 'signal=13' PIPE
    trap 'signal=15' TERM
    open_silence

    case ${1-} in
    stop | status | restart)
        find_logs
        (($# == 1)) || [[ $1 == restart ]] || usage "$1 takes no argument"
        case $1 in
        stop) stop_networks ;;
        status) show_status ;;
        restart) restart_port "${@:2}" ;;
        esac
        exit
        ;;
    esac

    read_arguments "$@"
    read_settings
    check_limits
    now_us
    built=$now
    build
    now_us
    started=$((started + now - built))
    choose_ports
    check_arguments
    check_ports
    check_control

    start_nodes
    open_network
    local port ports=()
    for ((port = first; port <= last; port++)); do
        ports+=("$port")
    done
    await_ready "${ports[@]}"
    await_answers "${ports[@]}"
    note_network
    now_us
    local tenths=$(((now - started + 50000) / 100000))
    say "$count nodes answer after $((tenths / 10)).$((tenths % 10)) s. Ctrl-C ends them."
    await_end
}

main "$@"
