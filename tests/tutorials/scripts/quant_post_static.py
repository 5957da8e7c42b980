"""docs/zh_cn/quick_start/static/quant_post_static_tutorial.md, on the CPU; the data are fashion_data's."""

import fashion_data
import numpy as np
import paddle
import paddle.vision.transforms as T
import paddleslim as slim
from fashion_data import FashionMNIST, batch

paddle.enable_static()

USE_GPU = False
model = slim.models.MobileNet()
train_program = paddle.static.Program()
startup = paddle.static.Program()
with paddle.static.program_guard(train_program, startup):
    image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
    label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
    gt = paddle.reshape(label, [-1, 1])
    out = model.net(input=image, class_dim=10)
    cost = paddle.nn.functional.loss.cross_entropy(input=out, label=gt)
    avg_cost = paddle.mean(x=cost)
    acc_top1 = paddle.metric.accuracy(input=out, label=gt, k=1)
    acc_top5 = paddle.metric.accuracy(input=out, label=gt, k=5)
    opt = paddle.optimizer.Momentum(0.01, 0.9)
    opt.minimize(avg_cost)

place = paddle.CUDAPlace(0) if USE_GPU else paddle.CPUPlace()
exe = paddle.static.Executor(place)
exe.run(startup)
val_program = train_program.clone(for_test=True)

transform = T.Compose([T.Transpose(), T.Normalize([127.5], [127.5])])
train_dataset = FashionMNIST(mode="train", backend="cv2", transform=transform)
test_dataset = FashionMNIST(mode="test", backend="cv2", transform=transform)
train_loader = paddle.io.DataLoader(
    train_dataset,
    places=place,
    feed_list=[image, label],
    drop_last=True,
    batch_size=batch(64),
    return_list=False,
    shuffle=True,
)
test_loader = paddle.io.DataLoader(
    test_dataset,
    places=place,
    feed_list=[image, label],
    drop_last=True,
    batch_size=batch(64),
    return_list=False,
    shuffle=False,
)

outputs = [acc_top1.name, acc_top5.name, avg_cost.name]


def train(prog):
    iter = 0
    for data in train_loader():
        acc1, acc5, loss = exe.run(prog, feed=data, fetch_list=outputs)
        if iter % 100 == 0:
            print("train iter={}, top1={}, top5={}, loss={}".format(iter, acc1.mean(), acc5.mean(), loss.mean()))
        iter += 1


def test(prog, outputs=outputs):
    iter = 0
    res = [[], []]
    for data in test_loader():
        acc1, acc5, loss = exe.run(prog, feed=data, fetch_list=outputs)
        if iter % 100 == 0:
            print("test iter={}, top1={}, top5={}, loss={}".format(iter, acc1.mean(), acc5.mean(), loss.mean()))
        res[0].append(acc1.mean())
        res[1].append(acc5.mean())
        iter += 1
    print("final test result", np.array(res[0]).mean(), np.array(res[1]).mean())
    return np.array(res[0]).mean()


train(train_program)
float_top1 = test(val_program)

paddle.static.save_inference_model(
    path_prefix="./inference_model/fp32",
    feed_vars=[image, label],
    fetch_vars=[acc_top1, acc_top5, avg_cost],
    executor=exe,
    program=val_program,
)

slim.quant.quant_post_static(
    executor=exe,
    model_dir="./inference_model",
    quantize_model_path="./quant_post_static_model",
    sample_generator=fashion_data.test(),
    model_filename="fp32.pdmodel",
    params_filename="fp32.pdiparams",
    batch_nums=10,
)

quant_post_static_prog, feed_target_names, fetch_targets = paddle.static.load_inference_model(
    path_prefix="./quant_post_static_model/model", executor=exe
)
quant_top1 = test(quant_post_static_prog, fetch_targets)
