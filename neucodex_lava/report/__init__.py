"""Results as tables, plots and one offline HTML page."""
