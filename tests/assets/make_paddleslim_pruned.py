"""Makes ``paddleslim_pruned.json``, which channels PaddleSlim 2.6 removes and what shapes are left, and
``paddleslim_pruned.zip``, a pruned model that its ``save_model`` wrote.

Run it where paddlepaddle 2.6.2 and paddleslim 2.6.0 are installed (CPython 3.10), nothing of slimkit is needed:

    python make_paddleslim_pruned.py [FOLDER]

The networks and their weights are those of ``tests/prune/static_networks.py``. Each case has the arguments of
``Pruner`` and ``prune``; ``removed`` are, for every filter of four dimensions that changed, the filters (axis 0) that
``lazy=True`` set to zero; ``shapes`` those of all parameters whose shape ``lazy=False`` changed. In the zip,
``reference.npz`` has an image and what the model makes of it.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import paddle
from paddleslim.prune import Pruner, save_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prune"))
import static_networks as networks  # noqa: E402

SEP = [name + "_sep_weights" for name, _, _ in networks.MOBILE]
MIXED = [0.1, 0.25, 0.33, 0.5, 0.5, 0.3, 0.2, 0.45, 0.7, 0.6, 0.5, 0.9]
CRITERIA = ["l1_norm", "geometry_median", "bn_scale"]
CASES = [
    *[("mobile_net", c, "default_idx_selector", SEP[:12], MIXED) for c in CRITERIA],
    ("mobile_net", "bn_scale", "optimal_threshold", SEP[:12], [0.1] * 12),
    ("mobile_net", "l1_norm", "default_idx_selector", ["conv1_weights", "conv6_sep_weights"], [0.5, 0.3]),
    *[("residual", c, "default_idx_selector", ["conv4_weights"], [0.5]) for c in CRITERIA],
    *[("residual", c, "default_idx_selector", ["conv2_weights", "conv3_weights"], [0.4, 0.6]) for c in CRITERIA],
    ("residual", "l1_norm", "default_idx_selector", ["conv4_weights", "conv1_weights"], [0.5, 0.2]),
]


def program_of(network):
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
        image = paddle.static.data("image", [None, 3, 32, 32])
        getattr(networks, network)(image, **({"scale": 0.25} if network == "mobile_net" else {}))
    scope = paddle.static.Scope()
    paddle.static.Executor(paddle.CPUPlace()).run(startup, scope=scope)
    networks.fill(program, scope)
    return program, scope


def values(program, scope):
    names = [var.name for var in program.list_vars() if var.persistable and scope.find_var(var.name) is not None]
    return {name: np.array(scope.find_var(name).get_tensor()) for name in names}


def case(network, criterion, selector, params, ratios):
    changed = {}
    for lazy in (True, False):
        program, scope = program_of(network)
        before = values(program, scope)
        pruner = Pruner(criterion, selector)
        pruner.prune(program, scope, params, ratios, place=paddle.CPUPlace(), lazy=lazy)
        changed[lazy] = values(program, scope)
    removed = {}
    for name, array in changed[True].items():
        gone = np.flatnonzero(~array.reshape(len(array), -1).any(axis=1)) if array.ndim == 4 else np.zeros(0, int)
        if gone.size:
            removed[name] = gone.tolist()
    shapes = {n: list(a.shape) for n, a in changed[False].items() if a.shape != before[n].shape}
    return {
        "network": network, "criterion": criterion, "idx_selector": selector, "params": params, "ratios": ratios,
        "removed": removed, "shapes": shapes,
    }  # fmt: skip


def saved(out):
    program, scope = program_of("residual")
    exe = paddle.static.Executor(paddle.CPUPlace())
    image = np.random.RandomState(0).standard_normal((1, 3, 32, 32)).astype("float32")
    with tempfile.TemporaryDirectory() as folder, paddle.static.scope_guard(scope):
        pruned, _, _ = Pruner().prune(program, scope, ["conv4_weights"], [0.5], place=paddle.CPUPlace())
        save_model(exe, pruned, folder + "/model")
        name = next(op.output("Y")[0] for op in reversed(pruned.global_block().ops) if op.type == "batch_norm")
        features = exe.run(pruned.clone(for_test=True), feed={"image": image}, fetch_list=[name])[0]
        np.savez(folder + "/reference.npz", image=image, features=features)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file() and path.suffix != ".pdmodel":
                    archive.write(path, path.relative_to(folder))


def main():
    paddle.enable_static()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    saved(folder / "paddleslim_pruned.zip")
    lines = ",\n".join(json.dumps(case(*each), sort_keys=True, separators=(",", ":")) for each in CASES)
    (folder / "paddleslim_pruned.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
