"""A TensorFlow checkpoint of MusiCNN's layout with random weights."""

import numpy as np

FRONT = [(7, 38, 1, 204), (7, 67, 1, 204), (128, 1, 1, 51), (64, 1, 1, 51), (32, 1, 1, 51)]
MIDDLE = [(7, 561, 1, 64), (7, 64, 1, 64), (7, 64, 1, 64)]
DENSE = [(1506, 200), (200, 50)]
NORMS = [1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200]


def random_variables():
    """The variables by TensorFlow's names."""
    generator = np.random.default_rng(0)
    shapes = {}
    for index, shape in enumerate(FRONT + MIDDLE):
        shapes[f"conv2d{f'_{index}' * (index > 0)}"] = shape
    for index, shape in enumerate(DENSE):
        shapes[f"dense{f'_{index}' * (index > 0)}"] = shape
    variables = {}
    for name, shape in shapes.items():
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        variables[f"{name}/kernel"] = scale * generator.standard_normal(shape)
        variables[f"{name}/bias"] = 0.1 * generator.standard_normal(shape[-1])
    for index, width in enumerate(NORMS):
        name = f"batch_normalization{f'_{index}' * (index > 0)}"
        variables[f"{name}/gamma"] = 0.5 + generator.standard_normal(width)  # Some are negative.
        variables[f"{name}/beta"] = 0.1 * generator.standard_normal(width)
        variables[f"{name}/moving_mean"] = 0.1 * generator.standard_normal(width)
        variables[f"{name}/moving_variance"] = generator.uniform(1e-3, 1.0, width)
    return {name: value.astype("<f4") for name, value in variables.items()}


def write_checkpoint(folder, variables):
    """The data file: variables in order of their names, each trained one before two moments of its optimizer."""
    folder.mkdir(parents=True)
    data = b""
    for name, value in sorted([*variables.items(), ("beta1_power", np.float32(0)), ("beta2_power", np.float32(0))]):
        data += value.tobytes()
        if not name.endswith(("moving_mean", "moving_variance", "power")):
            data += 2 * np.full_like(value, np.nan).tobytes()
    (folder / ".data-00000-of-00001").write_bytes(data)
