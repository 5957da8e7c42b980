"""docs/zh_cn/tutorials/quant/static/quant_post_tutorial.md, weight only, with paddle.static for paddle.fluid."""

import paddle
from paddleslim.models import MobileNet
from paddleslim.quant import quant_post_dynamic

paddle.enable_static()

image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
model = MobileNet()
out = model.net(input=image, class_dim=10)
main_prog = paddle.static.default_main_program()
val_prog = main_prog.clone(for_test=True)
place = paddle.CUDAPlace(0) if paddle.is_compiled_with_cuda() else paddle.CPUPlace()
exe = paddle.static.Executor(place)
exe.run(paddle.static.default_startup_program())

paddle.static.save_inference_model(
    path_prefix="./model_path/model", feed_vars=[image], fetch_vars=[out], executor=exe, program=val_prog
)

quant_post_dynamic(
    model_dir="./model_path",
    save_model_dir="./save_path",
    model_filename="model.pdmodel",
    params_filename="model.pdiparams",
    save_model_filename="model.pdmodel",
    save_params_filename="model.pdiparams",
)
