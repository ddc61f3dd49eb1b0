"""The product database: schema, migrations, the embedded server, queries and provenance.

What belongs here: everything that speaks SQL. What does not: deciding what to make next (`ingest`, `stages`) and Dagster's
own storage, which lives in the same server but is none of our business.
"""
