variables {
  documents_url = "https://search.example.org:9200"
  user          = "elastic"
  password_file = "password"
  keys_folder   = "keys"
  image         = "skytally:1"
  renewed       = "2026-11"
  groups        = { ingest = ["usage-report", "job-heartbeat"], readers = ["statement"], operators = [] }
}

run "a_key_a_group" {
  command = plan

  assert {
    condition     = output.files["search-ingest-2026-11"] == "keys/2026-11/ingest"
    error_message = "a group's key is a secret of its issue's name"
  }

  assert {
    condition     = !contains(keys(output.files), "search-operators-2026-11")
    error_message = "a person's key is no function's secret"
  }

  assert {
    condition     = output.function_secrets["statement"] == ["search-readers-2026-11"]
    error_message = "a function gets its group's key and no other"
  }
}

run "a_url_that_says_the_engine" {
  command = plan

  variables {
    documents_url = "opensearch+https://one.example.org:9200,opensearch+https://two.example.org:9200"
  }

  assert {
    condition     = output.function_secrets["statement"] == ["search-readers-2026-11"]
    error_message = "either engine's credentials are handed out alike"
  }
}

run "another_engine" {
  command = plan

  variables {
    documents_url = "solr+https://search.example.org:9200"
  }

  expect_failures = [var.documents_url]
}

run "a_url_with_a_password" {
  command = plan

  variables {
    documents_url = "https://elastic:secret@search.example.org:9200"
  }

  expect_failures = [var.documents_url]
}

run "too_short_a_life" {
  command = plan

  variables {
    ilm_days = 30
  }

  expect_failures = [var.ilm_days]
}
