"""demo/prune/train.py with --criterion geometry_median, on the CPU; MobileNetV1, fashion_data for its data."""

import os

import numpy as np
import paddle
from fashion_data import FashionMNIST, batch
from paddleslim.analysis import flops
from paddleslim.models import MobileNet
from paddleslim.prune import Pruner, save_model

paddle.enable_static()

batch_size, pruned_ratio, num_epochs, model_path = batch(64), 0.31, 1, "./models"
place = paddle.static.cpu_places()[0]
image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
model = MobileNet()
out = model.net(input=image, class_dim=10)
cost = paddle.nn.functional.loss.cross_entropy(input=out, label=label)
avg_cost = paddle.mean(x=cost)
acc_top1 = paddle.metric.accuracy(input=out, label=label, k=1)
acc_top5 = paddle.metric.accuracy(input=out, label=label, k=5)
val_program = paddle.static.default_main_program().clone(for_test=True)

train_dataset = FashionMNIST("train", transform=lambda image: image.transpose(2, 0, 1) / 127.5 - 1)
val_dataset = FashionMNIST("test", transform=lambda image: image.transpose(2, 0, 1) / 127.5 - 1)
step_per_epoch = len(train_dataset) // batch_size
learning_rate = paddle.optimizer.lr.PiecewiseDecay(boundaries=[step_per_epoch], values=[0.01, 0.001])
opt = paddle.optimizer.Momentum(
    learning_rate=learning_rate, momentum=0.9, weight_decay=paddle.regularizer.L2Decay(3e-5)
)
opt.minimize(avg_cost)

exe = paddle.static.Executor(place)
exe.run(paddle.static.default_startup_program())
batch_sampler = paddle.io.DistributedBatchSampler(train_dataset, batch_size=batch_size, shuffle=True, drop_last=True)
train_loader = paddle.io.DataLoader(
    train_dataset, places=[place], batch_sampler=batch_sampler, feed_list=[image, label], return_list=False
)
valid_loader = paddle.io.DataLoader(
    val_dataset, places=[place], feed_list=[image, label], drop_last=False, return_list=False, batch_size=batch_size
)


def test(epoch, program):
    acc_top1_ns = []
    for batch_id, data in enumerate(valid_loader):
        acc_top1_n, acc_top5_n = exe.run(program, feed=data, fetch_list=[acc_top1.name, acc_top5.name])
        acc_top1_ns.append(np.mean(acc_top1_n))
    print("Final eval epoch[{}] - acc_top1: {}".format(epoch, np.mean(np.array(acc_top1_ns))))
    return np.mean(np.array(acc_top1_ns))


def train(epoch, program):
    for batch_id, data in enumerate(train_loader):
        loss_n, acc_top1_n, acc_top5_n = exe.run(
            train_program, feed=data, fetch_list=[avg_cost.name, acc_top1.name, acc_top5.name]
        )
        if batch_id % 10 == 0:
            print("epoch[{}]-batch[{}] lr: {:.6f} - loss: {}".format(epoch, batch_id, learning_rate.get_lr(), loss_n))
        learning_rate.step()


test(0, val_program)
params = []
for param in paddle.static.default_main_program().global_block().all_parameters():
    if "_sep_weights" in param.name:
        params.append(param.name)
flops_before = flops(paddle.static.default_main_program())
print("FLOPs before pruning: {}".format(flops_before))
pruner = Pruner("geometry_median")
pruned_val_program, _, _ = pruner.prune(
    val_program,
    paddle.static.global_scope(),
    params=params,
    ratios=[pruned_ratio] * len(params),
    place=place,
    only_graph=True,
)
pruned_program, _, _ = pruner.prune(
    paddle.static.default_main_program(),
    paddle.static.global_scope(),
    params=params,
    ratios=[pruned_ratio] * len(params),
    place=place,
)
flops_after = flops(pruned_program)
print("FLOPs after pruning: {}".format(flops_after))
train_program = paddle.static.CompiledProgram(pruned_program)

for i in range(num_epochs):
    train(i, train_program)
    pruned_top1 = test(i, pruned_val_program)
    save_model(exe, pruned_val_program, os.path.join(model_path, str(i)))
    infer_model_path = os.path.join(model_path, "infer_models", str(i))
    paddle.static.save_inference_model(infer_model_path, [image], [out], exe, program=pruned_val_program)
    print("Saved inference model into [{}]".format(infer_model_path))
