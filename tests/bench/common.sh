# What the bench scripts share; read with `.`, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runs=${RUNS:-3}
work=$(mktemp -d "${TMPDIR:-/tmp}/dmc-bench.XXXXXX")
agents=()

end_agents() { # asks first; whoever is left after 10 s is made to
  # Nothing to end; in a trap, a bare return would pass on the status of what was interrupted.
  [ ${#agents[@]} -eq 0 ] && return 0
  kill -TERM "${agents[@]}" 2>/dev/null || :
  for _ in $(seq 100); do
    kill -0 "${agents[@]}" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "${agents[@]}" 2>/dev/null || :
  wait "${agents[@]}" 2>/dev/null || :
  agents=()
}
tidy() {
  end_agents
  rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT TERM

need() {
  local tool package
  for tool; do
    case $tool in
      taskset) package=util-linux ;;
      ip | tc) package=iproute2 ;;
      scp | ssh-keygen) package=openssh-client ;;
      sshd) package=openssh-server ;;
      *) package=$tool ;;
    esac
    command -v "$tool" >/dev/null || { echo "this needs $tool: apt-get install $package" >&2; exit 1; }
  done
}

dmc_binary() { # the release build, made if there is none
  if [ -n "${DMC_BIN:-}" ]; then
    echo "$DMC_BIN"
    return
  fi
  (cd "$root" && cargo build --quiet --release -p dmc-agent --bin dmc)
  echo "${CARGO_TARGET_DIR:-$root/target}/release/dmc"
}

film() { # FILE=…, or 60 s of moving fractal with film grain: it costs an encoder what film costs
  if [ -n "${FILE:-}" ]; then
    realpath -- "$FILE"
    return
  fi
  ffmpeg -nostdin -v error -y \
    -f lavfi -i "mandelbrot=s=640x360:r=25:maxiter=400:end_scale=0.0005,noise=alls=10:allf=t:all_seed=7,format=yuv420p" \
    -f lavfi -i "anoisesrc=r=48000:a=0.1:seed=3" -t "${SECONDS_OF_FILM:-60}" \
    -c:v libx264 -preset veryfast -crf 18 -g 50 -c:a aac "$work/film.mkv"
  echo "$work/film.mkv"
}

# timed NAME WORDS...: runs it and adds "wall cpu" in seconds, children included, to $work/NAME.times.
timed() {
  local name=$1
  shift
  local TIMEFORMAT='%R %U %S'
  { time "$@" >"$work/$name.out" 2>"$work/$name.err"; } 2>"$work/$name.time" ||
    { echo "$name failed:" >&2; tail -5 "$work/$name.err" "$work/$name.out" >&2; exit 1; }
  awk '{ print $1, $2 + $3 }' "$work/$name.time" >>"$work/$name.times"
}

# median NAME COLUMN
median() {
  awk -v c="$2" '{ print $c }' "$work/$1.times" | sort -n |
    awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

# The seconds of CPU that a process, its living children and its dead ones took so far.
cpu_of() {
  local hz children total=0 pid
  hz=$(getconf CLK_TCK)
  for pid in "$@"; do
    children=$(cat "/proc/$pid/task/"*"/children" 2>/dev/null || :)
    total=$((total + $(sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 + $14 + $15 }')))
    for child in $children; do
      total=$((total + $(sed 's/.*) //' "/proc/$child/stat" 2>/dev/null | awk '{ s += $12 + $13 } END { print s + 0 }')))
    done
  done
  awk -v t="$total" -v hz="$hz" 'BEGIN { print t / hz }'
}

# host N: the words that run something in the network of agent N; a script may say others.
host() { :; }
ask() { # ask N WORDS...: dmc as the user of agent N
  local n=$1
  shift
  # shellcheck disable=SC2046 — words
  $(host "$n") "$dmc" --data-dir "$work/data$n" "$@"
}

# see_each_other N: waits until each agent of $work/data0 … has N-1 others connected.
see_each_other() {
  local n=$1 i seen
  for ((i = 0; i < n; i++)); do
    for _ in $(seq 300); do
      if seen=$(ask "$i" peers --json 2>/dev/null); then
        seen=$(grep -oE '"state": *"connected"' <<<"$seen" | wc -l)
        [ "$seen" -ge $((n - 1)) ] && continue 2
      fi
      sleep 0.1
    done
    echo "agent $i does not see the others" >&2
    exit 1
  done
}
