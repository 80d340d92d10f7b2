#!/usr/bin/env bash
# All that only a GPU can show, on one card in at most nine minutes; the results are one JSON file.
#
#     bash tests/benchmarks/on_gpu.sh [RESULT.json]             # default: on_gpu.json
#     bash tests/benchmarks/on_gpu.sh --dry-run [RESULT.json]   # the same way with tiny models on a CPU, two minutes
#
# In turn: the tests that need a GPU; a bart-base-size model trained to answers of published lengths; answering in fp32
# (with bf16 and a trimmed vocabulary on the mixed questions) and in tf32 beside the reference's loop and transformers'
# generate; training steps with model FLOPs utilisation beside a plain loop; a few steps under DeepSpeed's ZeRO-2.
# A part that fails or runs out of its time is named in the JSON, and the others go on; the exit status is then 1.
# Needs what the tests need (pip install -e ".[test]"), and deepspeed for the last part, which is skipped without it.
set -uo pipefail
cd "$(dirname "$0")/../.."

device=cuda
if [ "${1:-}" = --dry-run ]; then device=cpu; shift; fi
result=$(realpath -m "${1:-on_gpu.json}")
python=${PYTHON:-python}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false

# part NAME SECONDS COMMAND…: runs it with its output in NAME.out and NAME.err, and keeps how it ended.
part() {
    local name=$1 limit=$2 started=$SECONDS status
    shift 2
    echo "[$SECONDS s] $name" >&2
    timeout "$limit" "$@" >"$parts/$name.out" 2>"$parts/$name.err"
    status=$?
    echo "{\"status\": $status, \"seconds\": $((SECONDS - started)), \"limit\": $limit}" >"$parts/$name.json"
    [ $status -eq 0 ] || { echo "[$SECONDS s] $name ended with status $status:" >&2; tail -n 5 "$parts/$name.err" >&2; }
}

if [ $device = cuda ]; then
    "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "no GPU here: try --dry-run" >&2; exit 2; }
    answering=(--model "$parts/model" --device cuda --turns 1 --sample 6 --ten-beams 2 --clips 40)
    part gpu_tests 60 "$python" -m pytest -n 0 -q -rs tests/models -k gpu
    part train_model 110 "$python" tests/benchmarks/train_generate_model.py --output "$parts/model" --minutes 1.2
    part answering_fp32 110 "$python" tests/benchmarks/bench_generate.py "${answering[@]}"
    part answering_tf32 100 env TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 "$python" tests/benchmarks/bench_generate.py "${answering[@]}"
    part training 90 "$python" tests/benchmarks/bench_train.py --size base --device cuda --steps 20 --plain_steps 6
    launch=(--config_file accelerate_configs/zero2.yaml --num_processes 1)
    steps=20
else
    part gpu_tests 60 "$python" -m pytest -n 0 -q -rs tests/models/lp_music_caps/test_engine_lp_music_caps.py -k gpu
    part answering_fp32 90 "$python" tests/benchmarks/bench_generate.py --quick
    part training 60 "$python" tests/benchmarks/bench_train.py --kinds short --clips 8 --batch_size 4 --steps 1 --plain_steps 1 --alternations 1
    launch=(--config_file accelerate_configs/cpu.yaml)
    steps=2
fi
if [ $device = cpu ] || "$python" -c 'import deepspeed' 2>/dev/null; then
    part zero2 60 "$python" -m accelerate.commands.launch "${launch[@]}" recipes/mi_short_long.py --demo --init_from none --max_clips 24 \
        --max_steps $steps --audio_warm_up_epochs 1 --eval_rows 0 --no_report --disable_tqdm True \
        --features "$parts/features" --output_dir "$parts/zero2"
else
    echo '{"skipped": "deepspeed is not installed"}' >"$parts/zero2.json"
fi

"$python" - "$parts" "$result" $device $SECONDS <<'PYTHON'
import json, platform, sys
from pathlib import Path

import torch, transformers

parts, result, device, seconds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
made = {
    "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()}), a dry run",
    "torch": torch.__version__, "transformers": transformers.__version__, "seconds": seconds, "parts": {},
}
for path in sorted(parts.glob("*.json")):
    part = json.loads(path.read_text())
    lines = path.with_suffix(".out").read_text().splitlines() if path.with_suffix(".out").exists() else []
    try:
        part["figures"] = json.loads(lines[-1])  # what the benchmarks print last, for machines
        lines = lines[:-1]
    except (IndexError, ValueError):
        pass
    if part.get("status"):
        part["errors"] = path.with_suffix(".err").read_text().splitlines()[-20:]
    made["parts"][path.stem] = part | {"printed": lines[-40:]}
result.write_text(json.dumps(made, indent=1) + "\n")
failed = [name for name, part in made["parts"].items() if part.get("status")]
print(f"{result}: {len(made['parts'])} parts in {seconds} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
sys.exit(1 if failed else 0)
PYTHON
