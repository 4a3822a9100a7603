this has no interpreter line
