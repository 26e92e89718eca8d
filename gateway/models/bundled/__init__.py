"""Where the bundled demo model lies, as a Hugging Face folder and as one GGUF file."""

from pathlib import Path
from typing import Final

NAME: Final = "gemma-3-askonce"
HF: Final = Path(__file__).with_name("hf")
GGUF: Final = Path(__file__).with_name(f"{NAME}.gguf")
