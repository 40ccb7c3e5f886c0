"""The Grafana dashboard, made from a table of panels: `python tests/dashboard.py` writes it."""

import json
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "monitoring" / "dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
YES_NO = [
    {
        "type": "value",
        "options": {
            "0": {"text": "no", "color": "red"},
            "1": {"text": "yes", "color": "green"},
        },
    }
]  # fmt: skip
#: title, kind, width (of 24), unit, (query, legend) of each line
PANELS = [
    ("Is my data safe?", "stat", 6, "yes", [("bitdust_mount_safe", "{{mountpoint}}")]),
    ("Suppliers that may be lost", "stat", 6, "none",
     [("bitdust_mount_may_lose_suppliers", "{{mountpoint}}")]),
    ("Only on this machine", "stat", 6, "bytes",
     [("bitdust_mount_only_here_bytes", "{{mountpoint}}")]),
    ("Running", "stat", 6, "yes",
     [("bitdust_mount_up", "{{mountpoint}}"), ("bitdust_supplier_up", "{{folder}}")]),
    ("Content", "timeseries", 12, "bytes",
     [("bitdust_mount_content_bytes", "{{mountpoint}}")]),
    ("To be sent, and how fast", "timeseries", 12, "bytes",
     [("bitdust_mount_owed_bytes", "owed, {{mountpoint}}"),
      ("bitdust_mount_send_bytes_per_second", "a second, {{mountpoint}}")]),
    ("Chance of a loss within a year", "timeseries", 12, "percentunit",
     [("bitdust_mount_loss_chance_ratio", "{{mountpoint}}"),
      ("bitdust_mount_loss_chance_high_ratio", "at worst, {{mountpoint}}")]),
    ("Suppliers: answered last", "state-timeline", 12, "yes",
     [("bitdust_mount_supplier_online", "{{mountpoint}} {{position}} {{node}}")]),
    ("Suppliers: share of pings answered", "timeseries", 12, "percentunit",
     [("bitdust_mount_supplier_uptime_ratio", "{{mountpoint}} {{position}}")]),
    ("Suppliers: latency", "timeseries", 8, "s",
     [("bitdust_mount_supplier_latency_seconds", "{{mountpoint}} {{position}}")]),
    ("Suppliers: stored", "timeseries", 8, "bytes",
     [("bitdust_mount_supplier_stored_bytes", "{{mountpoint}} {{position}}")]),
    ("Suppliers: failed audits, missing fragments", "timeseries", 8, "none",
     [("bitdust_mount_supplier_failed_audits", "failed, {{mountpoint}} {{position}}"),
      ("bitdust_mount_supplier_missing_fragments", "missing, {{mountpoint}} {{position}}")]),
    ("My supplier: space", "timeseries", 12, "bytes",
     [("bitdust_supplier_donated_bytes", "donated, {{folder}}"),
      ("bitdust_supplier_promised_bytes", "promised, {{folder}}"),
      ("bitdust_supplier_used_bytes", "used, {{folder}}"),
      ("bitdust_supplier_disk_free_bytes", "disk free, {{folder}}")]),
    ("My supplier: traffic", "timeseries", 12, "Bps",
     [("rate(bitdust_supplier_received_bytes_total[5m])", "came, {{folder}}"),
      ("rate(bitdust_supplier_served_bytes_total[5m])", "went, {{folder}}")]),
]  # fmt: skip
HEIGHT, WIDTH = 7, 24


def page():
    """The file as it should be."""
    x, y, panels = 0, 0, []
    for number, (title, kind, width, unit, lines) in enumerate(PANELS, 1):
        if x + width > WIDTH:
            x, y = 0, y + HEIGHT
        defaults = {"mappings": YES_NO} if unit == "yes" else {"unit": unit}
        targets = [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend,
             "datasource": SOURCE}
            for at, (query, legend) in enumerate(lines)
        ]  # fmt: skip
        panels.append({
            "id": number, "title": title, "type": kind, "datasource": SOURCE, "targets": targets,
            "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
            "fieldConfig": {"defaults": defaults, "overrides": []},
        })  # fmt: skip
        x += width
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    made = {
        "title": "bitdust", "uid": "bitdust", "schemaVersion": 39, "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"}, "templating": {"list": [variable]},
        "tags": ["bitdust"], "panels": panels,
    }  # fmt: skip
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
