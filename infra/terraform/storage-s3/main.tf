# Versioning stays off: on a versioned bucket a create-if-absent may win more than once, and a deleted payload would stay.
resource "aws_s3_bucket" "objects" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "objects" {
  bucket                  = aws_s3_bucket.objects.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "objects" {
  count  = var.encryption ? 1 : 0
  bucket = aws_s3_bucket.objects.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "objects" {
  count  = var.lifecycle_backstop ? 1 : 0
  bucket = aws_s3_bucket.objects.id

  # A deposit lives 7 days at most and a mark 30 days beyond it.
  dynamic "rule" {
    for_each = { prep = 10, idempotency = 10, mark = 45, audit = 400 }

    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = "${rule.key}/"
      }

      expiration {
        days = rule.value
      }
    }
  }
}

data "aws_iam_policy_document" "objects" {
  statement {
    sid       = "MarksAreCreatedOnce"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.objects.arn}/mark/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
  }

  statement {
    sid       = "OnlyEncryptedTransport"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.objects.arn, "${aws_s3_bucket.objects.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "objects" {
  count  = var.enforce_conditional_marks ? 1 : 0
  bucket = aws_s3_bucket.objects.id
  policy = data.aws_iam_policy_document.objects.json
}
