"""demo/prune/eval.py: the full-size network takes the shapes of the pruned one that fpgm_prune.py saved."""

import numpy as np
import paddle
from fashion_data import FashionMNIST, batch
from paddleslim.models import MobileNet
from paddleslim.prune import load_model

paddle.enable_static()

image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
model = MobileNet()
out = model.net(input=image, class_dim=10)
acc_top1 = paddle.metric.accuracy(input=out, label=label, k=1)
acc_top5 = paddle.metric.accuracy(input=out, label=label, k=5)
val_program = paddle.static.default_main_program().clone(for_test=True)
place = paddle.CPUPlace()
exe = paddle.static.Executor(place)
exe.run(paddle.static.default_startup_program())

val_dataset = FashionMNIST("test", transform=lambda image: image.transpose(2, 0, 1) / 127.5 - 1)
valid_loader = paddle.io.DataLoader(
    val_dataset, places=place, feed_list=[image, label], drop_last=False, return_list=False, batch_size=batch(64),
    shuffle=False,
)  # fmt: skip

load_model(exe, val_program, "./models/0")

acc_top1_ns = []
for batch_id, data in enumerate(valid_loader):
    acc_top1_n, acc_top5_n = exe.run(val_program, feed=data, fetch_list=[acc_top1.name, acc_top5.name])
    acc_top1_ns.append(np.mean(acc_top1_n))
loaded_top1 = np.mean(np.array(acc_top1_ns))
print("Final eval - acc_top1: {}".format(loaded_top1))
