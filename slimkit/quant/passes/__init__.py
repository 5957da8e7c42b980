"""quant.passes."""
