"""Object detection and instance segmentation: any backbone under a Cascade Mask R-CNN."""
