"""Score pictures in a Spark job of your own.

    pip install ".[cpu,parquet]" pyspark pandas
    spark-submit examples/spark_score.py PATHS.txt OUT

PATHS.txt holds one path or fsspec address per line, and every executor can read them. The models
are loaded once in each Python worker; Spark repeats a task whose executor dies.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from blurgate.engines import SPARK_SCHEMA, ScorePaths


def main() -> None:
    paths, out = sys.argv[1:]
    spark = SparkSession.builder.appName("blurgate").getOrCreate()
    # mapInPandas gives batches of this many rows; 64 pictures are some seconds of work.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "64")
    listed = spark.read.text(paths).withColumnRenamed("value", "path")
    rows = listed.mapInPandas(ScorePaths().frames, schema=SPARK_SCHEMA)
    rows.write.mode("error").parquet(out)


if __name__ == "__main__":
    main()
