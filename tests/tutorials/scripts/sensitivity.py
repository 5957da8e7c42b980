"""docs/zh_cn/tutorials/pruning/static/image_classification_sensitivity_analysis_tutorial.md with paddle.static for
paddle.fluid; the reader is fashion_data."""

import os

import fashion_data as reader
import numpy as np
import paddle
import paddleslim as slim

paddle.enable_static()

exe, train_program, val_program, inputs, outputs = slim.models.image_classification(
    "MobileNet", [1, 28, 28], 10, use_gpu=False
)
place = paddle.CPUPlace()

train_reader = paddle.batch(reader.train(), batch_size=reader.batch(128), drop_last=True)
test_reader = paddle.batch(reader.test(), batch_size=reader.batch(128), drop_last=True)
data_feeder = paddle.base.DataFeeder(inputs, place)


def test(program):
    acc_top1_ns = []
    acc_top5_ns = []
    for data in test_reader():
        acc_top1_n, acc_top5_n, _, _ = exe.run(program, feed=data_feeder.feed(data), fetch_list=outputs)
        acc_top1_ns.append(np.mean(acc_top1_n))
        acc_top5_ns.append(np.mean(acc_top5_n))
    print(
        "Final eva - acc_top1: {}; acc_top5: {}".format(
            np.mean(np.array(acc_top1_ns)), np.mean(np.array(acc_top5_ns))
        )
    )
    return np.mean(np.array(acc_top1_ns))


for data in train_reader():
    acc1, acc5, loss, _ = exe.run(train_program, feed=data_feeder.feed(data), fetch_list=outputs)
print(np.mean(acc1), np.mean(acc5), np.mean(loss))
test(val_program)

params = []
for param in train_program.global_block().all_parameters():
    if "_sep_weights" in param.name:
        params.append(param.name)
print(params)
params = params[: int(os.environ.get("SLIMKIT_TUTORIAL_PARAMS", "5"))]

sens_0 = slim.prune.sensitivity(
    val_program, place, params, test, sensitivities_file="sensitivities_0.data", pruned_ratios=[0.1, 0.2]
)
print(sens_0)
sens_0 = slim.prune.sensitivity(
    val_program, place, params, test, sensitivities_file="sensitivities_0.data", pruned_ratios=[0.3]
)
print(sens_0)
sens_1 = slim.prune.sensitivity(
    val_program, place, params, test, sensitivities_file="sensitivities_1.data", pruned_ratios=[0.4]
)
print(sens_1)
s_0 = slim.prune.load_sensitivities("sensitivities_0.data")
s_1 = slim.prune.load_sensitivities("sensitivities_1.data")
print(s_0)
print(s_1)
s = slim.prune.merge_sensitive([s_0, s_1])
print(s)

loss = 0.01
ratios = slim.prune.get_ratios_by_loss(s_0, loss)
print(ratios)

pruner = slim.prune.Pruner()
print("FLOPs before pruning: {}".format(slim.analysis.flops(val_program)))
pruned_val_program, _, _ = pruner.prune(
    val_program,
    paddle.static.global_scope(),
    params=ratios.keys(),
    ratios=ratios.values(),
    place=place,
    only_graph=True,
)
print("FLOPs after pruning: {}".format(slim.analysis.flops(pruned_val_program)))

pruner = slim.prune.Pruner()
print("FLOPs before pruning: {}".format(slim.analysis.flops(train_program)))
pruned_program, _, _ = pruner.prune(
    train_program,
    paddle.static.global_scope(),
    params=ratios.keys(),
    ratios=ratios.values(),
    place=place,
)
print("FLOPs after pruning: {}".format(slim.analysis.flops(pruned_program)))
test(pruned_val_program)

for data in train_reader():
    acc1, acc5, loss, _ = exe.run(pruned_program, feed=data_feeder.feed(data), fetch_list=outputs)
print(np.mean(acc1), np.mean(acc5), np.mean(loss))
pruned_top1 = test(pruned_val_program)
