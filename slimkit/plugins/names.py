"""The table of PaddleSlim's names: where slimkit has what ``paddleslim.X.Y`` is in PaddleSlim 2.6.

A row is ``name: where``: ``"slimkit.quant"`` has it under the same name, ``"slimkit.quant:other"`` under another;
``"later: what"`` is a capability of a coming version, ``"none: advice"`` is what slimkit does in another way.
docs/paddleslim.md prints this table. Modules are in the order of PaddleSlim's folders.
"""

from __future__ import annotations

from typing import Dict, Mapping

from slimkit.plugins.missing import LATER, NONE

__all__ = ["MODULES"]

Rows = Dict[str, str]


def _rows(where: str, names: str) -> Rows:
    return dict.fromkeys(names.split(), where)


def _merged(*tables: Mapping[str, str]) -> Rows:
    return {name: where for table in tables for name, where in table.items()}


_DIST = LATER + "distillation"
_NAS = LATER + "architecture search (NAS)"
_AUTO = LATER + "AutoCompression"
_REP = LATER + "re-parameterization"
_LOW_BIT = NONE + "weights of 2 to 16 bits are what slimkit.quant.quantize_weights(bits=...) gives"
_LATENCY = NONE + "measure with `slimkit verify`, which runs a model on its runtime"
_LLM = NONE + "quantizing of large language models is not its subject"
_NEW_API = NONE + "paddle.quantization is Paddle's own; slimkit.QAT takes PaddleSlim's config dict"
_WALK = NONE + "channels are followed by slimkit.prune.find_groups; see docs/pruning_groups.md"

# -- quantization
_QAT = _rows("slimkit.quant.layers", "QAT")
_PTQ = {
    **_rows("slimkit.quant.layers", "PTQ"),
    **_rows(
        "slimkit.quant.layers.ptq_quantizers",
        "AbsmaxQuantizer HistQuantizer KLQuantizer PerChannelAbsmaxQuantizer BaseQuantizer",
    ),
}
_QUANTER = _rows(
    "slimkit.quant",
    "quant_aware convert quant_post_static quant_post_dynamic quant_post quant_post_only_weight",
)
_OP_TYPES = _rows("slimkit.plugins.op_types", "TRANSFORM_PASS_OP_TYPES QUANT_DEQUANT_PASS_OP_TYPES TENSORRT_OP_TYPES")
_EMBEDDING = _rows("slimkit.quant", "quant_embedding")
_INFERMODEL = _rows(_AUTO, "quant_aware_with_infermodel export_quant_infermodel")
_RECONSTRUCTION = _rows(
    NONE + "quant_post_static with round_type='adaround' reconstructs layer by layer",
    "quant_recon_static ReconstructionQuantization",
)
_HPO = _rows(NONE + "`slimkit ptq --max-drop` searches the settings; see docs/ptq.md", "quant_post_hpo")
_ANALYSIS = _rows(NONE + "use slimkit.quant.analysis.analyze, or `slimkit analyze`", "AnalysisPTQ AnalysisQAT Analysis")
_OBSERVERS = _rows(
    _NEW_API,
    "HistObserver KLObserver MSEObserver EMDObserver AVGObserver AbsmaxObserver MSEWeightObserver"
    " MSEChannelWiseWeightObserver AbsMaxChannelWiseWeightObserver GroupWiseWeightObserver",
)
_QUANTERS = _rows(_NEW_API, "ActLSQplusQuanter WeightLSQplusQuanter PACTQuanter FakeQuanterChannelWiseAbsMaxObserver")

# -- pruning
_FILTER = {
    **_rows("slimkit.prune.layers", "FilterPruner"),
    **_rows("slimkit.dygraph.names", "Status FILTER_DIM CONV_OP_TYPE CONV_WEIGHT_NAME SKIP_LAYERS"),
}
_L1 = _rows("slimkit.prune.layers", "L1NormFilterPruner")
_L2 = _rows("slimkit.prune.layers", "L2NormFilterPruner")
_FPGM = _rows("slimkit.prune.layers", "FPGMFilterPruner")
_PLAN = _rows("slimkit.prune.layers", "PruningPlan PruningMask")
_LAYER_PRUNER = _rows("slimkit.prune.layers", "Pruner")
_LAYER_UNSTRUCTURED = _rows("slimkit.prune.unstructured.dygraph", "UnstructuredPruner GMPUnstructuredPruner")
_LAYER_GROUPS = _rows(_WALK, "DygraphPruningCollections")
_PRUNER = _rows("slimkit.prune", "Pruner")
_SENSITIVE = _rows("slimkit.prune", "sensitivity load_sensitivities merge_sensitive get_ratios_by_loss")
_PRUNE_IO = _rows("slimkit.prune", "save_model load_model")
_CRITERION = _rows(
    NONE + "criteria are named: Pruner(criterion='l1_norm'); see docs/prune_static.md",
    "CRITERION l1_norm geometry_median bn_scale",
)
_SELECTOR = _rows(
    NONE + "selectors are named: Pruner(idx_selector='default_idx_selector')",
    "IDX_SELECTOR default_idx_selector optimal_threshold",
)
_UNSTRUCTURED = _rows("slimkit.prune", "UnstructuredPruner GMPUnstructuredPruner")
_AUTO_PRUNER = _rows(_NAS, "AutoPruner")
_WORKER = _rows(_WALK, "PRUNE_WORKER PruneWorker conv2d UnsupportOpError")
_COLLECTIONS = {
    **_rows("slimkit.prune.static.views", "PruningDetails PruningCollection"),
    **_rows(_WALK, "PruningCollections StaticPruningCollections"),
}
_BLOCKS = _rows(
    NONE + "blocks are an option: UnstructuredPruner(local_sparsity=..., sparse_block=...)",
    "BLOCK_SPARSE_ACCURATE_THRESHOLD cal_mxn_avg_matrix",
)

# -- analysis
_FLOPS = _rows("slimkit.analysis", "flops dygraph_flops")
_SIZE = _rows("slimkit.analysis", "model_size")
_LATENCIES = _rows(
    _LATENCY, "LatencyEvaluator TableLatencyEvaluator LatencyPredictor TableLatencyPredictor get_key_from_op"
)
_SAVE_MODELS = _rows(_LATENCY, "save_cls_model save_det_model")

# -- distillation, search
_LAYER_DIST = _rows(_DIST, "Distill AdaptorBase config2yaml yaml2config")
_LAYER_REP = _rows(
    _REP,
    "Reparameter BaseRepConfig DBBRepConfig ACBRepConfig RepVGGConfig SlimRepConfig DiverseBranchBlock ACBlock"
    " RepVGGBlock SlimRepBlock",
)
_COMPRESSION = _rows(
    _AUTO,
    "AutoCompression QuantAware QuantPost Distillation MultiTeacherDistillation HyperParameterOptimization Prune"
    " UnstructurePrune ProgramInfo TrainConfig predict_compressed_model analysis_prune",
)

_PRUNE_LAYERS = _merged(_LAYER_GROUPS, _L1, _L2, _FPGM, _LAYER_PRUNER, _FILTER, _PLAN, _LAYER_UNSTRUCTURED)
_QUANT_LAYERS = _merged(_QAT, _PTQ)
_DYGRAPH = _merged(_QUANT_LAYERS, _PRUNE_LAYERS, _LAYER_DIST, _LAYER_REP, _rows(_DIST, "dist"), _rows(_REP, "rep"))
_ALL_ANALYSIS = _merged(_FLOPS, _SIZE, _LATENCIES, _SAVE_MODELS)
_ONNX = {
    **_rows(NONE + "`slimkit ptq --to onnx` and `slimkit export` write ONNX", "export_onnx"),
    **_rows(NONE + "convert ONNX with x2paddle first", "load_onnx_model"),
}
_CONTROLLERS = _rows(_NAS, "EvolutionaryController RLBaseController SAController ControllerServer ControllerClient")
_FUNCTIONAL = _rows(NONE + "layers are traced as they are", "functional2layer Counter init_index")
_PATTERNS = _rows(_AUTO, "find_final_nodes get_patterns")
_RECOVER = _rows(_AUTO, "recover_inference_program")
_COMMON = {
    **_rows("slimkit.common", "get_logger load_config save_config AvgrageMeter VarCollector cached_reader lock unlock"),
    **_rows("slimkit.common", "get_feed_vars wrap_dataloader load_inference_model get_model_dir"),
    **_CONTROLLERS,
    **_rows(_NAS, "Server Client rl_controller"),
    **_merged(_ONNX, _FUNCTIONAL, _PATTERNS, _RECOVER),
}
_WRAPPERS = {
    "GraphWrapper": "slimkit.prune.static.views:ProgramView",
    "VarWrapper": "slimkit.prune.static.views:VarView",
    "OpWrapper": "slimkit.prune.static.views:OpView",
}
_TRACER = _rows(_WALK, "GraphTracer Graph")
_REGISTRY = _rows(NONE + "its tables are dicts", "Registry")
_MODELS = _rows("slimkit.plugins.tutorial_models", "MobileNet MobileNetV2 ResNet34 ResNet50 image_classification")

#: Module of PaddleSlim -> its names. A module that is not here and not in slimkit is not found.
MODULES: Dict[str, Rows] = {
    "paddleslim": _merged(
        _DYGRAPH,
        _ALL_ANALYSIS,
        _rows(_DIST, "dist"),
        _rows(_NAS, "nas"),
        _rows(_AUTO, "auto_compression"),
        _rows(_LOW_BIT, "lc"),
        _rows(NONE + "it downloads nothing", "utils"),
    ),
    "paddleslim.analysis": _ALL_ANALYSIS,
    "paddleslim.analysis._utils": _merged(
        _SAVE_MODELS, _rows(_LATENCY, "nearest_interpolate opt_model load_predictor")
    ),
    "paddleslim.analysis.extract_features": _rows(_LATENCY, "get_data_from_tables get_features_from_paramkey"),
    "paddleslim.analysis.flops": _FLOPS,
    "paddleslim.analysis.latency": _LATENCIES,
    "paddleslim.analysis.latency_predictor": _LATENCIES,
    "paddleslim.analysis.model_size": _SIZE,
    "paddleslim.analysis.parse_ops": _LATENCIES,
    "paddleslim.common": _COMMON,
    "paddleslim.common.analyze_helper": _rows("slimkit.common", "VarCollector"),
    "paddleslim.common.cached_reader": _rows("slimkit.common", "cached_reader"),
    "paddleslim.common.config_helper": _rows("slimkit.common", "load_config save_config"),
    "paddleslim.common.controller": _CONTROLLERS,
    "paddleslim.common.controller_client": _CONTROLLERS,
    "paddleslim.common.controller_server": _CONTROLLERS,
    "paddleslim.common.dataloader": _rows("slimkit.common", "wrap_dataloader get_feed_vars"),
    "paddleslim.common.load_model": {**_rows("slimkit.common", "load_inference_model get_model_dir"), **_ONNX},
    "paddleslim.common.lock": _rows("slimkit.common", "lock unlock"),
    "paddleslim.common.log_helper": _rows("slimkit.common", "get_logger"),
    "paddleslim.common.meter": _rows("slimkit.common", "AvgrageMeter"),
    "paddleslim.common.patterns": _PATTERNS,
    "paddleslim.common.recover_program": _RECOVER,
    "paddleslim.common.sa_controller": _CONTROLLERS,
    "paddleslim.common.wrapper_function": _FUNCTIONAL,
    "paddleslim.core": _merged(_WRAPPERS, _rows("slimkit.common.programs", "dygraph2program"), _TRACER, _REGISTRY),
    "paddleslim.core.dygraph": _rows("slimkit.common.programs", "dygraph2program"),
    "paddleslim.core.graph": _TRACER,
    "paddleslim.core.graph_tracer": _TRACER,
    "paddleslim.core.graph_wrapper": _WRAPPERS,
    "paddleslim.core.registry": _REGISTRY,
    "paddleslim.dygraph": _DYGRAPH,
    "paddleslim.dygraph.prune": _PRUNE_LAYERS,
    "paddleslim.dygraph.prune.filter_pruner": _FILTER,
    "paddleslim.dygraph.prune.fpgm_pruner": _FPGM,
    "paddleslim.dygraph.prune.l1norm_pruner": _L1,
    "paddleslim.dygraph.prune.l2norm_pruner": _L2,
    "paddleslim.dygraph.prune.pruner": _LAYER_PRUNER,
    "paddleslim.dygraph.prune.pruning_plan": _PLAN,
    "paddleslim.dygraph.prune.unstructured_pruner": _LAYER_UNSTRUCTURED,
    "paddleslim.dygraph.prune.var_group": _LAYER_GROUPS,
    "paddleslim.dygraph.quant": _QUANT_LAYERS,
    "paddleslim.dygraph.quant.ptq": _PTQ,
    "paddleslim.dygraph.quant.qat": _QAT,
    "paddleslim.models": _MODELS,
    "paddleslim.prune": _merged(
        _PRUNER,
        _AUTO_PRUNER,
        _SENSITIVE,
        _WORKER,
        _PRUNE_IO,
        _CRITERION,
        _UNSTRUCTURED,
        _BLOCKS,
        _SELECTOR,
        _COLLECTIONS,
    ),
    "paddleslim.prune.auto_pruner": _AUTO_PRUNER,
    "paddleslim.prune.collections": _COLLECTIONS,
    "paddleslim.prune.criterion": _CRITERION,
    "paddleslim.prune.idx_selector": _SELECTOR,
    "paddleslim.prune.prune_io": _PRUNE_IO,
    "paddleslim.prune.prune_worker": _WORKER,
    "paddleslim.prune.pruner": _PRUNER,
    "paddleslim.prune.sensitive": _SENSITIVE,
    "paddleslim.prune.unstructured_pruner": _UNSTRUCTURED,
    "paddleslim.prune.unstructured_pruner_utils": _BLOCKS,
    "paddleslim.quant": _merged(
        _QUANTER, _EMBEDDING, _INFERMODEL, _RECONSTRUCTION, _HPO, _rows(_NEW_API, "SlimQAT SlimQuantConfig nn")
    ),
    "paddleslim.quant.advanced": _rows(
        _LLM,
        "GPTQ Smooth Shift PieceWiseSearch MultiStepSampler EMASampler LayerWiseQuantError ShiftSmoothHelpLayer"
        " WOBiasHelpLayer AWQSearch AutoClip",
    ),
    "paddleslim.quant.analysis": _ANALYSIS,
    "paddleslim.quant.config": _rows(_NEW_API, "SlimQuantConfig"),
    "paddleslim.quant.constraints": _rows(_NEW_API, "Constraint FusionConstraint FreezedConvBNConstraint"),
    "paddleslim.quant.layers": _rows(_LLM, "QuantizedColumnParallelLinear QuantizedRowParallelLinear"),
    "paddleslim.quant.observers": _OBSERVERS,
    "paddleslim.quant.post_quant_hpo": _HPO,
    "paddleslim.quant.qat": _rows(_NEW_API, "SlimQAT"),
    "paddleslim.quant.quant_embedding": _EMBEDDING,
    "paddleslim.quant.quanter": _merged(_QUANTER, _OP_TYPES),
    "paddleslim.quant.quanters": _QUANTERS,
    "paddleslim.quant.reconstruction_quantization": _RECONSTRUCTION,
}
