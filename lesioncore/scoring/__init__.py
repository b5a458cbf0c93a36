"""From a residual to a detection map: smoothing, the scan's own spread, healthy spread by place, cleaned masks."""
