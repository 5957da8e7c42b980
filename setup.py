"""Packaging of slimkit. ``pip install .[cpu]`` brings the CPU build of paddlepaddle; without the
extra the installed Paddle (CPU or GPU) is left alone."""

from pathlib import Path
from typing import Any, List

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).parent
VERSION: dict = {}
exec((HERE / "slimkit" / "version.py").read_text(encoding="utf-8"), VERSION)

# paddle2onnx has no wheel for CPython 3.13: there .onnx files can be run and read, but not written.
ONNX = ["paddle2onnx>=2.1,<3; python_version < '3.13'", "onnx>=1.16.1", "onnxruntime>=1.18"]

# Beside the package in site-packages: with SLIMKIT_AS_PADDLESLIM=1 a Python process takes paddleslim for slimkit.
# Without the variable it costs a look into the environment.
PTH = "slimkit_as_paddleslim.pth"
START = (
    "import os; os.environ.get('SLIMKIT_AS_PADDLESLIM') == '1'"
    " and __import__('slimkit.plugins.startup', fromlist=['install']).install()\n"
)


class BuildWithPth(build_py):
    """Builds the package and the file that Python runs at its start."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):
            Path(self.build_lib, PTH).write_text(START, encoding="utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> List[str]:
        outputs = super().get_outputs(include_bytecode)
        return outputs if getattr(self, "editable_mode", False) else [*outputs, str(Path(self.build_lib, PTH))]


class EditableWithPth(editable_wheel):
    """The same for ``pip install -e``. (The method is private to setuptools: should it go, so does the file.)"""

    def _run_build_commands(self, dist_name: str, unpacked_wheel: Any, *rest: Any) -> Any:
        Path(unpacked_wheel, PTH).write_text(START, encoding="utf-8")
        return super()._run_build_commands(dist_name, unpacked_wheel, *rest)


setup(
    name="slimkit",
    version=VERSION["__version__"],
    description="Compression of PaddlePaddle models: what is exported has been run on its runtime.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "slimkit/recipe/assets/LICENSE.*"],
    packages=find_packages(include=["slimkit", "slimkit.*"]),
    package_data={"slimkit": ["py.typed"], "slimkit.recipe": ["templates/*", "assets/*"]},
    include_package_data=False,
    cmdclass={"build_py": BuildWithPth, "editable_wheel": EditableWithPth},
    zip_safe=False,
    python_requires=">=3.9,<3.14",
    install_requires=[
        "numpy>=1.23",
        # The same cv2 as opencv-python's, without a display. Who has opencv-python: see docs/troubleshooting.md.
        "opencv-python-headless>=4.5",
        "pyyaml>=6.0",
        "pydantic>=2.5,<3",
        "rich>=13",
        "matplotlib>=3.7",
        "jinja2>=3.1",
        "protobuf>=3.20.2",
        "pillow>=9.5",
    ],
    extras_require={
        # Paddle imports setuptools, which CPython 3.12 and later no longer bring.
        "cpu": ["paddlepaddle>=3.0,<4", "setuptools"],
        "ocr": ["pylopdf-fonts-zh-cn>=0.1.1; python_version >= '3.10'"],
        "onnx": ONNX,
        # Workers of a sensitivity run on a cluster; no wheels for CPython 3.14.
        "ray": ["ray>=2.9"],
        "test": [
            *("pytest>=8", "pytest-timeout>=2.2", "hypothesis>=6.80", "ruff>=0.6", "mypy>=1.10", "types-PyYAML"),
            *ONNX,
        ],
    },
    entry_points={"console_scripts": ["slimkit=slimkit.cli:main"]},
    keywords=["quantization", "pact", "paddlepaddle", "paddle-lite", "model compression"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)],
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
