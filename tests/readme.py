"""``make readme``: the numbers and alt texts of README.md as they are in ``figures/record.json``."""

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def refreshed(readme: str, record: dict) -> str:
    """The text with each number behind ``<!-- claim -->``, to its digits, and each figure's alt text, as recorded."""
    values = {row["claim"]: row["value"] for entry in record.values() for row in entry["numbers"]}
    alts = {name: facts["alt"] for entry in record.values() for name, facts in entry["outputs"].items()}

    def number(match: re.Match) -> str:
        return f"{match[1]}{values[match[2]]:.{len(match[3] or '.') - 1}f}"

    readme = re.sub(r"(<!-- (.+?) -->\s*)-?\d+(\.\d+)?", number, readme)
    return re.sub(r'src="figures/([^"]+)" alt="[^"]*"', lambda m: f'src="figures/{m[1]}" alt="{alts[m[1]]}"', readme)


if __name__ == "__main__":
    path = CHECKOUT / "README.md"
    path.write_text(refreshed(path.read_text(), json.loads((CHECKOUT / "figures" / "record.json").read_text())))
