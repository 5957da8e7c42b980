"""docs/zh_cn/quick_start/static/pruning_tutorial.md with paddle.static for paddle.fluid; the reader is fashion_data."""

import fashion_data as reader
import paddle
import paddleslim as slim

paddle.enable_static()

exe, train_program, val_program, inputs, outputs = slim.models.image_classification(
    "MobileNet", [1, 28, 28], 10, use_gpu=False
)

FLOPs = slim.analysis.flops(train_program)
print("FLOPs: {}".format(FLOPs))

pruner = slim.prune.Pruner()
pruned_program, _, _ = pruner.prune(
    train_program,
    paddle.static.global_scope(),
    params=["conv2_1_sep_weights", "conv2_2_sep_weights"],
    ratios=[0.33] * 2,
    place=paddle.CPUPlace(),
)

pruned_FLOPs = slim.analysis.flops(pruned_program)
print("FLOPs: {}".format(pruned_FLOPs))

train_reader = paddle.batch(reader.train(), batch_size=reader.batch(128), drop_last=True)
train_feeder = paddle.base.DataFeeder(inputs, paddle.CPUPlace())

for data in train_reader():
    acc1, acc5, loss, _ = exe.run(pruned_program, feed=train_feeder.feed(data), fetch_list=outputs)
    print(acc1, acc5, loss)
