"""From YAML files to one checked configuration: presets, sizes, overrides, and links between values."""

from melody_cm.configuration.check import check_arguments, check_slot, open_slot, refuse_unknown
from melody_cm.configuration.tree import Config, Keys, leaves, load_config, parse_overrides
from melody_cm.configuration.yaml_file import find_file, parse_yaml, read_yaml, shipped
