# Steps of CI whose times are printed at the end; sourced by run and nightly.
# shellcheck shell=bash
times=$(mktemp)
trap 'code=$?; echo; echo "time of each step:"; cat "$times"; rm "$times"; exit "$code"' EXIT

# Run a command, and write down its time.
step() {
	local start=$SECONDS code=0
	bash -c "$1" || code=$?
	printf '%4d s  %s%s\n' $((SECONDS - start)) "$1" "$([ "$code" = 0 ] || echo "  (failed)")" >>"$times"
	return "$code"
}

# Run commands in parallel; print the output of the first as it runs, and then that of each other one.
at_once() {
	local logs=() pids=() command log pid code=0
	for command in "${@:2}"; do
		log=$(mktemp)
		step "$command" >"$log" 2>&1 &
		logs+=("$log") pids+=($!)
	done
	step "$1" || code=1
	for pid in "${pids[@]}"; do
		wait "$pid" || code=1
		cat "${logs[0]}"
		rm "${logs[0]}"
		logs=("${logs[@]:1}")
	done
	return "$code"
}
