#!/bin/sh
# Times the models of this folder with TensorRT: sh trtexec.sh [options of trtexec]
# It needs trtexec, which comes with TensorRT. What is timed already is left as it is: run it
# again to go on. Then: dcsnas profile SPACE --read DIR/trtexec
set -eu
cd "$(dirname "$0")"
[ -f plan.json ] || { echo "trtexec.sh: no plan.json here: copy the whole folder" >&2; exit 1; }
TRTEXEC=${TRTEXEC:-trtexec}
PASSES=2  # processes that time each network: what they differ in is the noise of the check
mkdir -p trtexec/operators trtexec/networks engines/operators engines/networks
cp plan.json trtexec/

run() {  # run NAME OUT: the model NAME, built at the first time; times and log to trtexec/OUT
    engine=engines/$1.engine
    if [ -s "$engine" ]; then source=--loadEngine=$engine; else source="--onnx=$1.onnx --saveEngine=$engine.partial"; fi
    # shellcheck disable=SC2086
    "$TRTEXEC" $source --useCudaGraph --useSpinWait --noDataTransfers --warmUp=200 \
        --iterations=40 --duration=1 --exportTimes="trtexec/$2.partial" $OPTIONS > "trtexec/$2.log" 2>&1 \
        || { echo "trtexec.sh: $1.onnx failed: see trtexec/$2.log" >&2; exit 1; }
    [ -s "$engine" ] || mv "$engine.partial" "$engine"
    mv "trtexec/$2.partial" "trtexec/$2.json"
}

OPTIONS="$*"
for pass in $(seq 1 $PASSES); do
    for model in operators/*.onnx networks/*.onnx; do
        name=${model%.onnx}
        case $pass-$model in 1-*|*-networks/*) ;; *) continue ;; esac
        [ -s "trtexec/$name.$pass.json" ] && continue
        run reference "$name.$pass.reference"
        run "$name" "$name.$pass"
        echo "$name, pass $pass of $PASSES"
    done
done
echo "finished: copy the folder trtexec back, dcsnas profile SPACE --read DIR/trtexec"
