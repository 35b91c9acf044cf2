"""The journal: what the gateway did with each request, in SQLite or PostgreSQL.

``schema`` has its tables, ``database`` opens and migrates it. It needs the extra ``journal``, and
nothing here is imported by a gateway without the section ``[journal]``.
"""

#: The variable in which the command ``journal`` looks for the password of a server.
PASSWORD_VARIABLE = "FASTROUTE_JOURNAL_PASSWORD"
