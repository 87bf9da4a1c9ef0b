variable "documents_url" {
  description = "Elasticsearch or OpenSearch, as SKYTALLY_DOCUMENTS says it: one or several https://host:9200, parted by commas; elasticsearch+https:// or opensearch+https:// says which."
  type        = string

  validation {
    condition     = alltrue([for host in split(",", var.documents_url) : can(regex("^((elasticsearch|opensearch)\\+)?https?://[^/@\\s]+$", host))])
    error_message = "documents_url must be http(s)://host:port, if need be with elasticsearch+ or opensearch+ before it, without user or path, several parted by commas."
  }
}

variable "ca_file" {
  description = "File with the CA of the search engine's certificate; empty: the machine's."
  type        = string
  default     = ""
}

variable "prefix" {
  description = "What the names of all indices begin with."
  type        = string
  default     = "skytally"

  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,99}$", var.prefix))
    error_message = "prefix must begin with a letter and hold lower-case letters, digits, - and _."
  }
}

variable "user" {
  description = "A user who may manage templates, indices, and API keys or users."
  type        = string
}

variable "password_file" {
  description = "File with that user's password. Only its path is kept in the state."
  type        = string
}

variable "keys_folder" {
  description = "Folder on this machine for the functions' API keys."
  type        = string
}

variable "renewed" {
  description = "Names this issue of the API keys; another name makes new ones."
  type        = string
  default     = "1"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,31}$", var.renewed))
    error_message = "renewed is a short name of lower-case letters, digits and dashes, such as 2026-11."
  }
}

variable "key_days" {
  description = "How long the API keys live."
  type        = number
  default     = 366

  validation {
    condition     = var.key_days >= 1 && var.key_days <= 3650
    error_message = "key_days must be 1 to 3650."
  }
}

variable "ilm_days" {
  description = "Let the engine itself remove intervals after so many days, where its edition has ILM or ISM; 0: only documents_forget does."
  type        = number
  default     = 0

  validation {
    condition     = var.ilm_days == 0 || var.ilm_days >= 62
    error_message = "ilm_days must leave two months at least, or be 0."
  }
}

variable "groups" {
  description = "The groups of functions that share a key: the functions of each."
  type        = map(list(string))
}

variable "image" {
  description = "The image that is deployed: another one may need other templates."
  type        = string
}

variable "cli" {
  description = "The skytally command."
  type        = string
  default     = "skytally"
}
