"""demo/quant/pact_quant_aware/train.py, on the CPU; MobileNetV1 and fashion_data for its network and ImageNet."""

import os
from collections import defaultdict

import numpy as np
import paddle
from fashion_data import FashionMNIST, batch
from paddle.common_ops_import import LayerHelper
from paddleslim.models import MobileNet
from paddleslim.quant import convert, quant_aware

paddle.enable_static()

batch_size, lr, num_epochs, l2_decay = batch(64), 0.01, 1, 3e-5
output_dir, quantization_model_save_dir = "output", "./quantization_models/"

image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
image.stop_gradient = False
label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
model = MobileNet()
out = model.net(input=image, class_dim=10)
cost = paddle.nn.functional.loss.cross_entropy(input=out, label=label)
avg_cost = paddle.mean(x=cost)
acc_top1 = paddle.metric.accuracy(input=out, label=label, k=1)
acc_top5 = paddle.metric.accuracy(input=out, label=label, k=5)

train_prog = paddle.static.default_main_program()
val_program = paddle.static.default_main_program().clone(for_test=True)

train_dataset = FashionMNIST("train", transform=lambda image: image.transpose(2, 0, 1) / 127.5 - 1)
val_dataset = FashionMNIST("test", transform=lambda image: image.transpose(2, 0, 1) / 127.5 - 1)
step = len(train_dataset) // batch_size
learning_rate = paddle.optimizer.lr.CosineAnnealingDecay(learning_rate=lr, T_max=step * num_epochs, verbose=False)
opt = paddle.optimizer.Momentum(
    learning_rate=learning_rate, momentum=0.9, weight_decay=paddle.regularizer.L2Decay(l2_decay)
)
opt.minimize(avg_cost)

places = paddle.CPUPlace()
exe = paddle.static.Executor(places)
exe.run(paddle.static.default_startup_program())
sampler = paddle.io.DistributedBatchSampler(train_dataset, shuffle=True, drop_last=True, batch_size=batch_size)
train_loader = paddle.io.DataLoader(
    train_dataset,
    places=places,
    feed_list=[image, label],
    return_list=False,
    batch_sampler=sampler,
    use_shared_memory=True,
    num_workers=0,
)
valid_loader = paddle.io.DataLoader(
    val_dataset,
    places=places,
    feed_list=[image, label],
    drop_last=False,
    return_list=False,
    batch_size=batch_size,
    use_shared_memory=True,
    shuffle=False,
)

values = defaultdict(lambda: 20)
quant_config = {
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "weight_bits": 8,
    "activation_bits": 8,
    "not_quant_pattern": ["skip_quant"],
    "quantize_op_types": ["conv2d", "depthwise_conv2d", "mul"],
    "dtype": "int8",
    "window_size": 10000,
    "moving_rate": 0.9,
    "onnx_format": False,
}


def pact(x):
    helper = LayerHelper("pact", **locals())
    dtype = "float32"
    init_thres = values[x.name.split("_tmp_input")[0]]
    u_param_attr = paddle.ParamAttr(
        name=x.name + "_pact",
        initializer=paddle.nn.initializer.Constant(value=init_thres),
        regularizer=paddle.regularizer.L2Decay(0.0001),
        learning_rate=1,
    )
    u_param = helper.create_parameter(attr=u_param_attr, shape=[1], dtype=dtype)

    part_a = paddle.nn.functional.relu(x - u_param)
    part_b = paddle.nn.functional.relu(-u_param - x)
    x = x - part_a + part_b
    return x


def get_optimizer():
    return paddle.optimizer.Momentum(lr, 0.9)


val_program = quant_aware(
    val_program,
    places,
    quant_config,
    scope=None,
    act_preprocess_func=None,
    optimizer_func=None,
    executor=None,
    for_test=True,
)
compiled_train_prog = quant_aware(
    train_prog,
    places,
    quant_config,
    scope=None,
    act_preprocess_func=pact,
    optimizer_func=get_optimizer,
    executor=exe,
    for_test=False,
)


def test(epoch, program):
    acc_top1_ns = []
    acc_top5_ns = []
    for data in valid_loader():
        acc_top1_n, acc_top5_n = exe.run(program, feed=data, fetch_list=[acc_top1.name, acc_top5.name])
        acc_top1_ns.append(np.mean(acc_top1_n))
        acc_top5_ns.append(np.mean(acc_top5_n))
    print(
        "Final eval epoch[{}] - acc_top1: {:.6f}; acc_top5: {:.6f}".format(
            epoch, np.mean(np.array(acc_top1_ns)), np.mean(np.array(acc_top5_ns))
        )
    )
    return np.mean(np.array(acc_top1_ns))


def train(epoch, compiled_train_prog, lr):
    batch_id = 0
    for data in train_loader():
        loss_n, acc_top1_n, acc_top5_n = exe.run(
            compiled_train_prog, feed=data, fetch_list=[avg_cost.name, acc_top1.name, acc_top5.name]
        )
        if batch_id % 10 == 0:
            print(
                "epoch[{}]-batch[{}] lr: {:.6f} - loss: {:.6f}; acc_top1: {:.6f}".format(
                    epoch, batch_id, learning_rate.get_lr(), np.mean(loss_n), np.mean(acc_top1_n)
                )
            )
        if batch_id % 1000 == 0:
            threshold = {}
            for var in val_program.list_vars():
                if "pact" in var.name:
                    array = np.array(paddle.static.global_scope().find_var(var.name).get_tensor())
                    threshold[var.name] = array[0]
            print(threshold)
        batch_id += 1
        lr.step()


best_acc1 = 0.0
for i in range(num_epochs):
    train(i, compiled_train_prog, learning_rate)
    acc1 = test(i, val_program)
    paddle.static.save(model_path=os.path.join(output_dir, str(i)), program=val_program)
    if acc1 >= best_acc1:
        best_acc1 = acc1
        paddle.static.save(model_path=os.path.join(output_dir, "best_model"), program=val_program)

if os.path.exists(output_dir):
    paddle.static.load(executor=exe, model_path=os.path.join(output_dir, "best_model"), program=val_program)
float_program = convert(val_program, places, quant_config)
model_path = os.path.join(quantization_model_save_dir, "MobileNet", "act_" + "moving_average_abs_max")
if not os.path.isdir(model_path):
    os.makedirs(model_path)
paddle.static.save_inference_model(
    path_prefix=os.path.join(model_path, "model"),
    feed_vars=[image],
    fetch_vars=[out],
    executor=exe,
    program=float_program,
)
