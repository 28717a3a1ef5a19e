ALTER TABLE monitor ADD COLUMN pace JSON;  -- PaceWatch: whether answers are slower, or more requests fail; null: none was seen
