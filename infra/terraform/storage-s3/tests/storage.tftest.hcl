mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  bucket = "skytally-secrets"
}

run "safe_by_default" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket_policy.objects) == 1 && length(aws_s3_bucket_lifecycle_configuration.objects) == 1
    error_message = "the policy and the backstop are there unless asked away"
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.objects.restrict_public_buckets
    error_message = "nobody makes it public"
  }
}

run "a_store_that_knows_less" {
  command = plan

  variables {
    enforce_conditional_marks = false
    encryption                = false
    lifecycle_backstop        = false
  }

  assert {
    condition     = length(aws_s3_bucket_policy.objects) == 0 && length(aws_s3_bucket_server_side_encryption_configuration.objects) == 0
    error_message = "what a store does not know can be left out"
  }
}

run "no_bucket_name" {
  command = plan

  variables {
    bucket = "Not_A_Bucket"
  }

  expect_failures = [var.bucket]
}
