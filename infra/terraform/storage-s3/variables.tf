variable "bucket" {
  description = "The bucket of deposits, marks and evidence; nothing else may lie in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be a valid bucket name of 3 to 63 characters."
  }
}

variable "enforce_conditional_marks" {
  description = "Refuse, by bucket policy, any write of a mark that is not If-None-Match. AWS knows this condition; other stores may not."
  type        = bool
  default     = true
}

variable "encryption" {
  description = "Ask for encryption at rest; some compatible stores have none to ask for. Deposits are sealed before they are stored all the same."
  type        = bool
  default     = true
}

variable "lifecycle_backstop" {
  description = "Let the store remove what the sweep should have removed long ago. It works in whole days and late, so it is never the expiry."
  type        = bool
  default     = true
}
