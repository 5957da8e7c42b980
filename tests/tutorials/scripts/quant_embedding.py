"""docs/zh_cn/tutorials/quant/static/embedding_quant_tutorial.md, with paddle.static for paddle.fluid."""

import paddle
import paddleslim.quant as quant

paddle.enable_static()

train_program = paddle.static.Program()
with paddle.static.program_guard(train_program):
    input_word = paddle.static.data(name="input_word", shape=[None, 1], dtype="int64")
    input_emb = paddle.static.nn.embedding(
        input=input_word,
        is_sparse=False,
        size=[100, 128],
        param_attr=paddle.ParamAttr(name="emb", initializer=paddle.nn.initializer.Uniform(-0.005, 0.005)),
    )

infer_program = train_program.clone(for_test=True)

use_gpu = False
place = paddle.CUDAPlace(0) if use_gpu else paddle.CPUPlace()
exe = paddle.static.Executor(place)
exe.run(paddle.static.default_startup_program())

config = {
    "quantize_op_types": ["lookup_table"],
    "lookup_table": {
        "quantize_type": "abs_max",
        "quantize_bits": 8,
        "dtype": "int8",
    },
}

quant_program = quant.quant_embedding(infer_program, place, config)

paddle.static.save_inference_model("./embedding/model", [input_word], [input_emb], exe, program=quant_program)
