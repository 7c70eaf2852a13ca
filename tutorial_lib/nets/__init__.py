"""Networks: their building blocks, the U-Net of the series, two published ones, the classifier."""
