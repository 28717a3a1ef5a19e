CREATE TABLE removal (                 -- files whose rows are gone, until they are removed: beneath the home folder
    path VARCHAR NOT NULL
);
