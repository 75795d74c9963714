"""The baseline of look-ups: a FastAPI route that returns a fixed dict, as one would write it, and nothing else.

    python -m bench.fixed PORT JSON      answers GET /fixed with the object

Not here: what is compared with it (bench.service).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI


def main(port: str, text: str) -> None:
    app = FastAPI()
    answer = json.loads(text)

    @app.get("/fixed")
    async def fixed() -> dict[str, Any]:
        return dict(answer)

    uvicorn.run(
        app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
