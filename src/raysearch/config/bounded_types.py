"""Types with bounds, for the numbers of a space file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MAX_COUNT = 10**9
MAX_REPEATS = 20
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
Flag = Annotated[bool, Field(strict=True)]
Repeats = Annotated[int, Field(strict=True, ge=0, le=MAX_REPEATS)]
Hours = Annotated[float, Field(strict=True, ge=1e-3, le=1e6)]
Dollars = Annotated[float, Field(strict=True, ge=0.01, le=1e9)]
Price = Annotated[float, Field(strict=True, ge=0.0, le=1e6)]
Target = Annotated[float, Field(strict=True, ge=0.0, le=1e6)]
ReductionFactor = Annotated[int, Field(strict=True, ge=2, le=MAX_COUNT)]
Probability = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]
GridSteps = Annotated[int, Field(strict=True, ge=2, le=1000)]
