"""Running a recipe: `steps.apply` takes the steps of `store.config.data.recipe` over a `working.Working`,
`outcome.write` makes the new version of what is left. One file for each family of steps."""
