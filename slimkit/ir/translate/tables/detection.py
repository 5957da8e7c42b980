"""Boxes: anchors, decoding, regions, non-maximum suppression."""

from __future__ import annotations

from slimkit.ir.translate.rows import Row

__all__ = ["ROWS"]

_SUPPRESSED = {"out": "Out", "index": "Index", "nms_rois_num": "NmsRoisNum"}

ROWS = (
    Row(
        "yolo_box", "yolo_box", inputs={"x": "X", "img_size": "ImgSize"},
        outputs={"boxes": "Boxes", "scores": "Scores"},
    ),
    Row(
        "prior_box", "prior_box", inputs={"input": "Input", "image": "Image"},
        outputs={"out": "Boxes", "var": "Variances"},
    ),
    Row(
        "box_coder", "box_coder",
        inputs={"prior_box": "PriorBox", "prior_box_var": "PriorBoxVar", "target_box": "TargetBox"},
        outputs={"output_box": "OutputBox"},
    ),
    Row(
        "multiclass_nms3", "multiclass_nms3",
        inputs={"bboxes": "BBoxes", "scores": "Scores", "rois_num": "RoisNum"}, outputs=_SUPPRESSED,
    ),
    Row(
        "matrix_nms", "matrix_nms", inputs={"bboxes": "BBoxes", "scores": "Scores"},
        outputs={"out": "Out", "index": "Index", "roisnum": "RoisNum"},
    ),
    Row("nms", "nms", inputs={"x": "Boxes"}, outputs={"out": "KeepBoxesIdxs"}, attrs={"threshold": "iou_threshold"}),
    Row(
        "roi_align", "roi_align", inputs={"x": "X", "boxes": "ROIs", "boxes_num": "RoisNum"}, outputs={"out": "Out"},
    ),
    Row(
        "roi_pool", "roi_pool", inputs={"x": "X", "boxes": "ROIs", "boxes_num": "RoisNum"},
        outputs={"out": "Out", "arg_max": "Argmax"},
    ),
    Row(
        "psroi_pool", "psroi_pool", inputs={"x": "X", "boxes": "ROIs", "boxes_num": "RoisNum"}, outputs={"out": "Out"},
    ),
    Row(
        "generate_proposals", "generate_proposals_v2",
        inputs={
            "scores": "Scores", "bbox_deltas": "BboxDeltas", "im_shape": "ImShape", "anchors": "Anchors",
            "variances": "Variances",
        },
        outputs={"rpn_rois": "RpnRois", "rpn_roi_probs": "RpnRoiProbs", "rpn_rois_num": "RpnRoisNum"},
        attrs={"pre_nms_top_n": "pre_nms_topN", "post_nms_top_n": "post_nms_topN"},
    ),
    Row(
        "distribute_fpn_proposals", "distribute_fpn_proposals",
        inputs={"fpn_rois": "FpnRois", "rois_num": "RoisNum"},
        outputs={
            "multi_fpn_rois": "MultiFpnRois", "multi_level_rois_num": "MultiLevelRoIsNum",
            "restore_index": "RestoreIndex",
        },
    ),
)  # fmt: skip
