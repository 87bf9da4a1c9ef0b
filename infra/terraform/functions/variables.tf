variable "gateway_url" {
  description = "The OpenFaaS gateway, or whatever speaks its REST API. http to another machine needs SKYTALLY_GATEWAY_INSECURE=1."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/\\s]+$", var.gateway_url))
    error_message = "gateway_url must be http(s)://host[:port] without a path."
  }
}

variable "password_file" {
  description = "File with the password of the gateway's user admin. Only its path is kept in the state."
  type        = string
}

variable "ca_file" {
  description = "CA of the gateway's certificate, where this machine does not know it; \"\": it does."
  type        = string
  default     = ""
}

variable "image" {
  description = "The image that holds all functions."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+:[^\\s:/]+$", var.image))
    error_message = "image must name a tag, so that a roll-back is a tag too."
  }
}

variable "settings" {
  description = "Settings of every function, by the names of the table in docs/settings.md. Secrets do not belong here."
  type        = map(string)

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^(SKYTALLY_|AWS_|STORAGE_EMULATOR_HOST$|GOOGLE_APPLICATION_CREDENTIALS$)", name))])
    error_message = "settings are named SKYTALLY_…, AWS_…, STORAGE_EMULATOR_HOST or GOOGLE_APPLICATION_CREDENTIALS."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : !can(regex("SECRET|PASSWORD|API_KEY$|SESSION_TOKEN", name))])
    error_message = "hand secrets over as files (secrets), never as settings."
  }
}

variable "function_settings" {
  description = "Settings of single functions, by the function's name in paths (panda-collect); they win over settings."
  type        = map(map(string))
  default     = {}
}

variable "secrets" {
  description = "Names of the gateway's secrets that every function mounts, of keys those that use them. Their values never pass through Terraform."
  type        = set(string)
}

variable "function_secrets" {
  description = "Names of secrets that single functions mount besides, by the function's name in paths."
  type        = map(list(string))
  default     = {}
}

variable "secret_files" {
  description = "Files of the secrets' values, by name. Only their paths are kept in the state."
  type        = map(string)
  default     = {}
}

variable "schedules" {
  description = "Other schedules of single timers, cron in UTC, by service name; an empty one switches the timer off."
  type        = map(string)
  default     = {}
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}
