-- Times of the minute that goes on are counts by now; it goes on without those that it has.
UPDATE monitor SET pace = json_object('place', pace -> '$.place', 'tests', list_transform(
    CAST(pace -> '$.tests' AS JSON[]),
    lambda test: CASE WHEN json_type(test, '$.open') = 'OBJECT'
        THEN json_merge_patch(test, '{"open": {"bins": null}}'::JSON, '{"open": {"bins": {}}}'::JSON) ELSE test END))
WHERE pace IS NOT NULL;
-- What is in an older store was seen and put right by people: the tests begin with what comes.
UPDATE monitor SET pace = json_object('place', next_place, 'tests', []) WHERE pace IS NULL;
