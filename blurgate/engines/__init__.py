"""Scoring inside other people's jobs: one callable class over paths, and the engines that use it.

    ds.map_batches(ScorePaths, batch_format="pyarrow", ...)       # Ray Data
    df.mapInPandas(ScorePaths().frames, schema=SPARK_SCHEMA)      # Spark

`docs/scale.md` and `examples/` show both. Nothing here imports Ray or Spark.
"""

from blurgate.engines.paths import SPARK_SCHEMA, ScorePaths

__all__ = ["SPARK_SCHEMA", "ScorePaths"]
